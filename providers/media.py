"""Images that a request names by their address, for providers that cannot fetch them themselves.

A caller chooses the address, so it must not lead into our own network: the host is looked up once,
every address it has must be a public one, and the connection goes to the one that was looked at.
"""

import ipaddress
import socket
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from config.settings import MIB
from models.errors import InvalidRequest, ProviderFailed, ProviderTimeout
from providers import http
from providers.http import Answer, Call

#: What Gemini takes in one request, all in all.
MAX_BYTES = 20 * MIB
MAX_SECONDS = 20
MAX_REDIRECTS = 3

#: The first bytes of each type: what a server calls it does not count.
_SIGNATURES: tuple[tuple[str, Callable[[bytes], bool]], ...] = (
    ("image/png", lambda data: data.startswith(b"\x89PNG\r\n\x1a\n")),
    ("image/jpeg", lambda data: data.startswith(b"\xff\xd8\xff")),
    ("image/gif", lambda data: data.startswith((b"GIF87a", b"GIF89a"))),
    ("image/webp", lambda data: data.startswith(b"RIFF") and data[8:12] == b"WEBP"),
    ("image/heic", lambda data: data[4:12] in (b"ftypheic", b"ftypheix")),
    ("image/heif", lambda data: data[4:12] in (b"ftypmif1", b"ftypheif", b"ftypmsf1")),
)

#: An IPv6 network through which some hosts reach IPv4 ones; the last four bytes are the address.
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
#: What not every version of Python counts as special: RFC 6890 and, given up long ago, RFC 3879.
_INSIDE = (ipaddress.ip_network("192.0.0.0/24"), ipaddress.ip_network("fec0::/10"))


@dataclass(frozen=True)
class Media:
    """What was fetched: its type, by its own first bytes, and all of its bytes."""

    media_type: str
    data: bytes


def fetch(call: Call, url: str, param: str) -> Media:
    """Return the image at `url`, which stands at `param` of the request.

    It is a PNG, JPEG, GIF, WebP, HEIC or HEIF of at most 20 MiB, to be had over http or https from
    a public address within 20 seconds and 3 redirects. Raises `InvalidRequest` where it is not, and
    what ends `call` meanwhile.
    """
    try:
        with call.within(MAX_SECONDS):
            return _fetch(call, url)
    except _Refused as refusal:
        reason = str(refusal)
    except (ProviderTimeout, ProviderFailed):
        call.check()
        reason = "it could not be fetched"
    raise InvalidRequest(f"Invalid value for '{param}': {reason}.", param=param)


class _Refused(Exception):
    """Why an image is not fetched, as a phrase for the caller."""


def _fetch(call: Call, url: str) -> Media:
    target = _read(url)
    for _ in range(MAX_REDIRECTS + 1):
        with http.get(call, target, _address(target)) as answer:
            if not 300 <= answer.status < 400:
                return _image(answer)
            target = _redirected(target, answer.headers.get("location", ""))
    raise _Refused(f"it redirects more than {MAX_REDIRECTS} times")


def _redirected(target: SplitResult, location: str) -> SplitResult:
    following = _read(urljoin(target.geturl(), location))
    if target.scheme == "https" and following.scheme == "http":
        raise _Refused("it redirects from https to http")
    return following


def _read(url: str) -> SplitResult:
    """Return a URL that can be asked for, in ASCII."""
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").encode("idna").decode(), parts.port
    except ValueError:
        raise _Refused("it is not a URL") from None
    if parts.scheme not in ("http", "https") or not host:
        raise _Refused("it must be an http or https URL")
    if "@" in parts.netloc:
        raise _Refused("it must not have a user or a password in it")
    host = f"[{host}]" if ":" in host else host
    return SplitResult(
        parts.scheme,
        host if port is None else f"{host}:{port}",
        quote(parts.path, safe="/%:@!$&'()*+,;=~"),
        quote(parts.query, safe="/%:@!$&'()*+,;=~?"),
        "",
    )


def _address(target: SplitResult) -> str:
    """Return an address of the host; raise where any that it has is not public."""
    port = target.port or {"http": 80, "https": 443}[target.scheme]
    try:
        found = socket.getaddrinfo(target.hostname, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise _Refused("its host cannot be found") from None
    addresses = [str(address[0]) for *_, address in found]
    if not addresses or not all(map(is_public, addresses)):
        raise _Refused("its host has no public address")
    return addresses[0]


def is_public(address: str) -> bool:
    """Tell whether anybody on the internet could reach `address`. A seam: tests are local."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return is_public(str(found.ipv4_mapped))
        if found in _NAT64:
            return is_public(str(ipaddress.IPv4Address(found.packed[-4:])))
        if found.sixtofour is not None or found.teredo is not None:
            return False  # They lead to an IPv4 address, by way of whoever knows it.
    special = found.is_multicast or found.is_reserved or any(found in net for net in _INSIDE)
    return found.is_global and not special


def _image(answer: Answer) -> Media:
    if answer.status != 200:
        raise _Refused(f"its server answers with HTTP {answer.status}")
    if "content-encoding" in answer.headers:
        raise _Refused("its server compresses what it was asked not to")
    data = _bytes(answer)
    announced = answer.headers.get("content-length", "")
    if announced.isdigit() and int(announced) != len(data):
        raise _Refused("it breaks off")
    for media_type, is_one in _SIGNATURES:
        if is_one(data):
            return Media(media_type, data)
    raise _Refused("it is no PNG, JPEG, GIF, WebP, HEIC or HEIF image")


def _bytes(answer: Answer) -> bytes:
    """Return the body; raise as soon as there is too much of it."""
    pieces, size = [], 0
    for piece in answer.pieces():
        pieces.append(piece)
        size += len(piece)
        if size > MAX_BYTES:
            raise _Refused(f"it is larger than {MAX_BYTES // MIB} MiB")
    return b"".join(pieces)
