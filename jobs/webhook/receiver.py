"""Receivers of webhooks: which URLs and addresses a webhook may be sent to."""

from collections.abc import Sequence
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
    """Resolve the host and check its addresses; raises as `untrusted.public_addresses` does."""
    allow_private = settings.webhook_allow_private
    return untrusted.public_addresses(call, parts, NOT_PUBLIC, any_address=allow_private)
