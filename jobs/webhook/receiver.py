"""Which URLs a webhook may be sent to."""

from collections.abc import Sequence
from ipaddress import ip_address
from urllib.parse import SplitResult

from config.settings import settings
from models.errors import InvalidRequest
from net import public_hosts, untrusted
from net.call import Call
from net.connection import Address

NAMED = "The webhook's URL"
NOT_PUBLIC = "The host has no public address."


def check_url(url: str) -> None:
    """Raise `InvalidRequest` for what can be no receiver's address."""
    try:
        parts = public_hosts.checked(url, NAMED)
        if parts.port == 0:
            raise InvalidRequest(f"{NAMED} has no valid port.")
    except InvalidRequest as error:
        raise InvalidRequest(error.message, param="webhook_url") from None


def addresses(call: Call, parts: SplitResult) -> Sequence[Address]:
    """Look up the host, once: the connection goes to what was checked."""
    port = public_hosts.PORTS[parts.scheme] if parts.port is None else parts.port
    found = untrusted.resolve(call, parts.hostname or "", port)
    if not found or not all(_may_be_asked(address[4][0]) for address in found):
        raise InvalidRequest(NOT_PUBLIC)
    return found


def _may_be_asked(address: str) -> bool:
    return settings.webhook_allow_private or public_hosts.is_allowed(ip_address(address))
