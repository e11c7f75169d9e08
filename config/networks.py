"""IP networks, as settings and keys name them: addresses and CIDRs, comma-separated."""

import ipaddress
from collections.abc import Iterable
from functools import lru_cache

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

#: From which the routers of platforms reach the machines: none is routed on the Internet.
OF_PLATFORMS = (
    "10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,100.64.0.0/10,127.0.0.0/8,fc00::/7,fe80::/10,::1"
)
#: The IPv6 network that a provider gives to one client at least.
SUBSCRIBER_BITS = 64
#: In a setting: no network at all, where it has others by default.
NONE = "none"


@lru_cache(maxsize=1000)
def read(text: str) -> tuple[Network, ...]:
    """Return the networks in `text`; an address is a network of one.

    Raises `ValueError` naming the first part that is none.
    """
    parts = (part.strip() for part in text.split(","))
    return tuple(_network(part) for part in parts if part)


def of_setting(text: str) -> tuple[Network, ...]:
    """Return the networks that a setting names, which may be `none`."""
    return () if text.strip().lower() == NONE else read(text)


def check(text: str) -> str:
    """Return the `text` of a setting; raise `ValueError` if it does not name networks."""
    of_setting(text)
    return text


def _network(text: str) -> Network:
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(
            f"'{text}' is no address or CIDR: write one like 203.0.113.7 or 203.0.113.0/24"
        ) from None
    mapped = getattr(network.network_address, "ipv4_mapped", None)
    if mapped is not None and network.prefixlen >= 96:
        return ipaddress.ip_network((mapped, network.prefixlen - 96), strict=False)
    return network


def address(text: str) -> Address | None:
    """Return the address in `text`, without a port or zone; None if there is none.

    An IPv4 address that is written as an IPv6 one is returned as what it is.
    """
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def subscriber(address: Address) -> Address | Network:
    """Return what one client has: an IPv4 address, or all addresses of an IPv6 network."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    return ipaddress.ip_network((int(address), SUBSCRIBER_BITS), strict=False)


def contain(networks: Iterable[Network], address: Address) -> bool:
    """Tell whether `address` is in one of `networks`."""
    return any(address in network for network in networks)
