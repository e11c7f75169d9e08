"""The address of the client, behind however many proxies are trusted."""

from flask import request

from config import networks
from config.networks import Address
from config.settings import settings


def find() -> Address | None:
    """Return the client's address: the last one that is no trusted proxy's. None if unknown.

    Each proxy appends to `X-Forwarded-For` the address that it was asked from. What stands before
    an address that is not trusted may be anybody's invention.
    """
    forwarded = request.headers.get("X-Forwarded-For", "").split(",")
    hops = [part for part in forwarded if part.strip()]
    address = networks.address(request.remote_addr or "")
    while hops and address is not None and networks.contain(settings.proxies, address):
        address = networks.address(hops.pop())
    return address
