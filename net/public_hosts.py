"""Which hosts requests may go to if a caller chose the URL: public addresses only."""

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import SplitResult, urlsplit

from models.errors import InvalidRequest

PORTS = {"http": 80, "https": 443}

#: The networks of IANA's registry of special IPv4 addresses that hold no public hosts, and one
#: address that looks public.
NOT_PUBLIC = [
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",  # Between a carrier and its customers; also Alibaba Cloud's metadata.
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
#: An IPv6 address is public if it is in `PUBLIC_6` and in none of `NOT_PUBLIC_6`.
PUBLIC_6 = IPv6Network("2000::/3")
NOT_PUBLIC_6 = [
    IPv6Network(network)
    for network in (
        "2001::/23",  # Protocols, among them Teredo, which embeds any IPv4 address.
        "2001:db8::/32",
        "2002::/16",  # 6to4, which embeds them, too.
        "3fff::/20",
    )
]
#: Networks without IPv4 reach IPv4 hosts by these addresses, whose last 32 bits are the host's.
NAT64 = IPv6Network("64:ff9b::/96")

#: Host names whose last label begins with a letter, as in all public names. Resolvers read others,
#: such as `127.1`, `0x7f000001` and `2130706433`, as IPv4 addresses.
NAME = re.compile(r"(?=.{1,253}$)([a-z0-9_-]{1,63}\.)*[a-z][a-z0-9-]{0,62}", re.IGNORECASE)
PORT = re.compile(r":[0-9]*$")
#: Characters that some URL parsers drop and others do not.
NOT_IN_A_URL = re.compile(r"[\x00-\x20\x7f\\]")


def is_allowed(address: IPv4Address | IPv6Address) -> bool:
    """Tell whether `address` can be a public host's. A seam: tests replace it."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in NOT_PUBLIC)
    if address in NAT64:
        return is_allowed(IPv4Address(address.packed[-4:]))
    return address in PUBLIC_6 and not any(address in network for network in NOT_PUBLIC_6)


def parse_url(url: str, name: str) -> SplitResult:
    """Return the parts of `url`, which must be one that all parsers read alike.

    Raises `InvalidRequest`, whose message calls the URL `name`.
    """
    if NOT_IN_A_URL.search(url):
        raise InvalidRequest(f"{name} has a space, backslash or control character in it.")
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  # It raises if the port is invalid.
    except ValueError:
        raise InvalidRequest(f"{name} is not a valid URL.") from None

    if parts.scheme not in PORTS:
        raise InvalidRequest(f"{name} has to begin with http:// or https://.")
    if "@" in parts.netloc:
        raise InvalidRequest(f"{name} must not have a user name or password in it.")
    if not _has_host(parts):
        raise InvalidRequest(
            f"{name} has no valid host. Write names in ASCII (xn--…), IPv4 addresses as"
            " four decimal numbers, and IPv6 addresses in brackets."
        )
    return parts


def _has_host(parts: SplitResult) -> bool:
    """Tell whether there is a host in its usual spelling, followed by a port or nothing."""
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
