"""Which hosts strangers may have us ask: public addresses only."""

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import SplitResult, urlsplit

from models.errors import InvalidRequest

PORTS = {"http": 80, "https": 443}

#: What IANA's registry of special IPv4 addresses has that is not anybody's public host, and one
#: that looks public.
NOT_PUBLIC = [
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",  # Between a carrier and its customers; Alibaba's metadata, too.
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's own services, inside each virtual machine.
        "169.254.0.0/16",  # Link-local, and most clouds' metadata.
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",  # Relays into 6to4.
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
]
#: IPv6 addresses of public hosts are in the first and in none of the others.
PUBLIC_6 = IPv6Network("2000::/3")
NOT_PUBLIC_6 = [
    IPv6Network(network)
    for network in (
        "2001::/23",  # Protocols, among them Teredo, which embeds any IPv4 address.
        "2001:db8::/32",
        "2002::/16",  # 6to4, which does so, too.
        "3fff::/20",
    )
]
#: How a network that has no IPv4 reaches hosts that have nothing else: the last 32 bits.
NAT64 = IPv6Network("64:ff9b::/96")

#: What resolvers read as an IPv4 address, `127.1`, `0x7f000001` and `2130706433`, ends in a label
#: that begins with a digit. No public name does.
NAME = re.compile(r"(?=.{1,253}$)([a-z0-9_-]{1,63}\.)*[a-z][a-z0-9-]{0,62}", re.IGNORECASE)
PORT = re.compile(r":[0-9]*$")
#: Left out by some readers of URLs and understood by others.
NOT_IN_A_URL = re.compile(r"[\x00-\x20\x7f\\]")


def is_allowed(address: IPv4Address | IPv6Address) -> bool:
    """Tell whether `address` can be a public host's. Tests, whose servers are not, replace this."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in NOT_PUBLIC)
    if address in NAT64:
        return is_allowed(IPv4Address(address.packed[-4:]))
    return address in PUBLIC_6 and not any(address in network for network in NOT_PUBLIC_6)


def checked(url: str, named: str) -> SplitResult:
    """Return the parts of `url`, if it is one that everybody reads alike.

    Raises `InvalidRequest`, with what is wrong with what the caller knows as `named`.
    """
    if NOT_IN_A_URL.search(url):
        raise InvalidRequest(f"{named} has a space, backslash or control character in it.")
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  # It raises for what is no port.
    except ValueError:
        raise InvalidRequest(f"{named} is not a valid URL.") from None

    if parts.scheme not in PORTS:
        raise InvalidRequest(f"{named} has to begin with http:// or https://.")
    if "@" in parts.netloc:
        raise InvalidRequest(f"{named} must not have a user name or password in it.")
    if not _has_host(parts):
        raise InvalidRequest(
            f"{named} has no valid host. Write names in ASCII (xn--…), IPv4 addresses as"
            " four decimal numbers, and IPv6 addresses in brackets."
        )
    return parts


def _has_host(parts: SplitResult) -> bool:
    """Tell whether there is a host, in its usual spelling, and only a port beside it."""
    host = parts.hostname or ""
    written = f"[{host}]" if ":" in host else host
    return _is_host(host) and PORT.sub("", parts.netloc.lower()) == written


def _is_host(host: str) -> bool:
    if NAME.fullmatch(host):
        return True
    try:
        ip_address(host)
    except ValueError:
        return False
    return "%" not in host
