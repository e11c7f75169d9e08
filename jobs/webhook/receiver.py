"""Receivers of webhooks: which URLs and addresses a webhook may be sent to."""

from collections.abc import Sequence
from ipaddress import ip_address
from urllib.parse import SplitResult

from config.settings import settings
from models.errors import InvalidRequest
from net import public_hosts, untrusted
from net.call import Call
from net.connection import Address

LABEL = "The webhook's URL"
NOT_PUBLIC = "The host has no public address."


def check_url(url: str) -> None:
    """Raise `InvalidRequest` for a URL that cannot be a receiver's."""
    try:
        parts = public_hosts.parse_url(url, LABEL)
        if parts.port == 0:
            raise InvalidRequest(f"{LABEL} has no valid port.")
    except InvalidRequest as error:
        raise InvalidRequest(error.message, param="webhook_url") from None


def addresses(call: Call, parts: SplitResult) -> Sequence[Address]:
    """Resolve the host and check its addresses, once, so that the connection goes to these."""
    port = public_hosts.PORTS[parts.scheme] if parts.port is None else parts.port
    resolved = untrusted.resolve(call, parts.hostname or "", port)
    if not resolved or not all(_is_allowed(address[4][0]) for address in resolved):
        raise InvalidRequest(NOT_PUBLIC)
    return resolved


def _is_allowed(address: str) -> bool:
    return settings.webhook_allow_private or public_hosts.is_allowed(ip_address(address))
