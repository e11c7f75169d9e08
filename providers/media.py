"""Images by URL: those that a caller named, for providers that do not fetch for themselves, and
those that a provider made.

Whoever can write a chat message chooses where the first goes, and it goes from inside the
operator's network. So it goes to public addresses only, straight: no proxy of the environment is
used, because a proxy looks names up by itself, after the check. No cookie and no key is ever sent,
and what callers are told is the same for a host that is inside and for one that does not exist.

A provider is hardly trusted any more: its answer, too, may name a host inside. What an operator has
there as the provider's own base URL is the one exception.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from pathlib import Path
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from config.settings import MIB
from models.errors import InvalidRequest, LikeDoError, ProviderFailed, ProviderTimeout
from providers import http, spool
from providers.http import Call
from providers.spool import Spooled

MAX_BYTES = 20 * MIB
#: For all of it: names, redirects and bytes.
FETCH_SECONDS = 20.0
#: The same of an image that a provider made, all attempts together, and the pauses between them.
MAX_RESULT_BYTES = 64 * MIB
DOWNLOAD_SECONDS = 60.0
RETRY_PAUSES = (0.25, 1.0)
MAX_REDIRECTS = 3
REDIRECTS = {301, 302, 303, 307, 308}
PORTS = {"http": 80, "https": 443}

#: Nothing here tells one caller from another, or us from any other visitor of that server.
HEADERS = {"Accept": "image/*", "Accept-Encoding": "identity", "User-Agent": "likedo/1"}

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
ASCII = "".join(map(chr, range(128)))
#: Left out by some readers of URLs and understood by others.
NOT_IN_A_URL = re.compile(r"[\x00-\x20\x7f\\]")

SIGNATURES = [
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "image/png"),
    (re.compile(rb"\xff\xd8\xff"), "image/jpeg"),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), "image/webp"),
    (re.compile(rb"GIF8[79]a"), "image/gif"),
]
#: Of what is read to know a format by.
SIGNATURE_BYTES = 12
#: The brands of ISO/IEC 23008-12; `mif1` is what they share, and AVIF with them.
HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis"}
MAX_BRANDS_BYTES = 256

UNREACHABLE = (
    "The image could not be fetched: its server was not reached, had no valid certificate, or broke"
    " off. Check the URL, or send the image as a data URL."
)
LATE = (
    f"The image did not come in time, which is {FETCH_SECONDS:.0f} seconds at most. Send it as a"
    " data URL, or name a faster server."
)
TOO_LARGE = f"The image is larger than {MAX_BYTES // MIB} MiB, the most that is fetched."


@dataclass(frozen=True, slots=True)
class Media:
    """An image: its type, as its bytes say it, such as `image/png`, and its bytes."""

    media_type: str
    data: bytes


def fetch(call: Call, url: str, param: str) -> Media:
    """Fetch the image at `url`, an http or https URL that stood in the request at `param`.

    PNG, JPEG, WebP, GIF, HEIC or HEIF of up to 20 MiB, from a public address, within 20 seconds and
    3 redirects. Proxies of the environment are not used. Raises `InvalidRequest` with `param` where
    there is no such image, what `call` was aborted with, and `ProviderTimeout` past its deadline.
    """
    with _explained(call, param), http.part(call, FETCH_SECONDS) as part:
        data = _follow(part, url)
        return Media(_media_type(data), data)


def is_allowed(address: IPv4Address | IPv6Address) -> bool:
    """Tell whether `address` can be a public host's. Tests, whose servers are not, replace this."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in NOT_PUBLIC)
    if address in NAT64:
        return is_allowed(IPv4Address(address.packed[-4:]))
    return address in PUBLIC_6 and not any(address in network for network in NOT_PUBLIC_6)


@contextmanager
def _explained(call: Call, param: str) -> Iterator[None]:
    """Turn what went wrong with the image's server into the caller's error."""
    try:
        yield
    except (InvalidRequest, ProviderFailed, ProviderTimeout) as error:
        call.check()
        raise InvalidRequest(_explanation(error), param=param) from error


def _explanation(error: InvalidRequest | ProviderFailed | ProviderTimeout) -> str:
    if isinstance(error, InvalidRequest):
        return error.message
    return LATE if isinstance(error, ProviderTimeout) else UNREACHABLE


# ---- What a provider made ------------------------------------------------------------------------


def download(call: Call, url: str | Spooled, folder: Path, trusted_base_url: str) -> Path:
    """Fetch the image at `url`, which a provider answered with, into a new file in `folder`.

    PNG, JPEG, WebP or GIF of up to 64 MiB, within 60 seconds and 3 redirects, from a public
    address or one of the host of `trusted_base_url`. A data URL is taken apart, `Spooled` or not.
    Fetching costs nothing: where the connection or the server fails, it is tried twice more.
    Raises what `call` was aborted with, `ProviderFailed` where there is no such image, and
    `ProviderTimeout` where it does not come in time.
    """
    if isinstance(url, Spooled) or url[:5].lower() == "data:":
        return spool.saved(url, folder)
    with _blamed(call), http.part(call, DOWNLOAD_SECONDS) as part:
        for pause in RETRY_PAUSES:
            try:
                return _into_file(part, url, folder, trusted_base_url)
            except ProviderFailed:
                part.wait(pause)
        return _into_file(part, url, folder, trusted_base_url)


def side_by_side(ways: Sequence[Callable[[], Path]]) -> list[Path | LikeDoError]:
    """Get a file in each of `ways`, all at once; in the place of one that does not come, why.

    What a call was aborted with, and what is wrong with us, is raised.
    """
    if len(ways) == 1:
        return [_tried(ways[0])]
    with ThreadPoolExecutor(max_workers=len(ways)) as pool:
        return list(pool.map(_tried, ways))


def _tried(way: Callable[[], Path]) -> Path | LikeDoError:
    try:
        return way()
    except (ProviderFailed, ProviderTimeout) as error:
        return error


@contextmanager
def _blamed(call: Call) -> Iterator[None]:
    """Turn what went wrong with the image's server into the provider's failure."""
    try:
        yield
    except (InvalidRequest, ProviderFailed) as error:
        call.check()
        raise ProviderFailed("The image that the provider made could not be fetched.") from error
    except ProviderTimeout as error:
        call.check()
        raise ProviderTimeout("The image that the provider made did not come in time.") from error


def _into_file(call: Call, url: str, folder: Path, trusted_base_url: str) -> Path:
    def reach(parts: SplitResult) -> Sequence[http.Address]:
        return _addresses_of_result(call, parts, trusted_base_url)

    with _found(call, url, reach, MAX_RESULT_BYTES) as answer:
        if answer.status >= 500 or answer.status == 429:
            raise ProviderFailed(f"The image's server failed (HTTP {answer.status}).")
        _check_head(answer)
        with spool.new_file(folder) as file:
            for piece in _image(_bounded(answer, MAX_RESULT_BYTES)):
                file.write(piece)
        return file.path


def _addresses_of_result(call: Call, parts: SplitResult, trusted: str) -> Sequence[http.Address]:
    """Look up the host of a result; raise `ProviderFailed` where asking again may help."""
    found = _look_up(call, parts, of_result=True)
    if not found:
        raise ProviderFailed("The image's host has no address.")
    inside = {address[4][0] for address in found if not _is_public(address[4][0])}
    if inside and not _is_at(call, parts, inside, urlsplit(trusted)):
        raise InvalidRequest("The image's host is not a public one.")
    return found


def _is_at(call: Call, parts: SplitResult, addresses: set[str], trusted: SplitResult) -> bool:
    """Tell whether this is the `trusted` host, on whatever port, by its name or its addresses."""
    if parts.hostname == trusted.hostname:
        return True
    trusted_ones = _look_up(call, trusted, of_result=True)
    return addresses <= {address[4][0] for address in trusted_ones}


def _bounded(answer: http.Answer, max_bytes: int) -> Iterator[bytes]:
    """Yield the body as it comes, unless there is too much of it."""
    if _is_announced_larger(answer, max_bytes):
        raise InvalidRequest("The image is too large.")
    # One piece more than is taken, so that too much of it is told from a connection that fails.
    answer.limit = max_bytes + http.READ_BYTES
    size = 0
    for piece in answer.pieces():
        size += len(piece)
        if size > max_bytes:
            raise InvalidRequest("The image is too large.")
        yield piece


def _image(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the same bytes, if the first of them are those of a format that is taken."""
    head = b""
    for piece in pieces:
        head += piece
        if len(head) >= SIGNATURE_BYTES:
            break
    if not any(signature.match(head) for signature, _ in SIGNATURES):
        raise InvalidRequest("What was fetched is not a PNG, JPEG, WebP or GIF image.")
    yield head
    yield from pieces


# ---- The way there -------------------------------------------------------------------------------


def _follow(call: Call, url: str) -> bytes:
    """Return what is at `url`, or where that leads."""
    with _found(call, url, lambda parts: _addresses(call, parts), MAX_BYTES) as answer:
        return _body(answer)


@contextmanager
def _found(
    call: Call, url: str, reach: Callable[[SplitResult], Sequence[http.Address]], max_bytes: int
) -> Iterator[http.Answer]:
    """Give the answer at `url`, or where that leads; each host is asked at what `reach` returns."""
    for _ in range(1 + MAX_REDIRECTS):
        parts = _checked(url)
        with http.get(call, parts.geturl(), reach(parts), HEADERS, max_bytes) as answer:
            if answer.status not in REDIRECTS:
                yield answer
                return
            url = _target(parts, answer)
    raise InvalidRequest(f"The image's URL redirects more than {MAX_REDIRECTS} times.")


def _checked(url: str) -> SplitResult:
    return checked(url, "The image's URL")


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


def _addresses(call: Call, parts: SplitResult) -> Sequence[http.Address]:
    """Look up the host, once: the connection goes to what was checked."""
    found = _look_up(call, parts)
    if not found or not all(_is_public(address[4][0]) for address in found):
        # Whether there is such a host inside is nobody's business outside.
        raise InvalidRequest("The image's host has no public address. Send it as a data URL.")
    return found


def _look_up(call: Call, parts: SplitResult, of_result: bool = False) -> Sequence[http.Address]:
    port = PORTS[parts.scheme] if parts.port is None else parts.port
    return http.resolve(call, parts.hostname or "", port, of_result)


def _is_public(address: str) -> bool:
    return is_allowed(ip_address(address))


def _target(parts: SplitResult, answer: http.Answer) -> str:
    """Return where a redirect leads."""
    # http.client reads headers as Latin-1, which keeps the bytes. What is ASCII stays as it is.
    location = quote(answer.headers.get("location", ""), safe=ASCII, encoding="latin-1")
    if not location:
        raise InvalidRequest("The image's URL redirects to nowhere.")
    try:
        target = urljoin(parts.geturl(), location)
        scheme = urlsplit(target).scheme
    except ValueError:
        raise InvalidRequest("The image's URL redirects to what is not a valid URL.") from None
    if parts.scheme == "https" and scheme == "http":
        raise InvalidRequest("The image's URL redirects from https to http.")
    return target


def _body(answer: http.Answer) -> bytes:
    """Read the image, unless the headers say that it is none we can use."""
    _check_head(answer)
    if _is_announced_larger(answer, MAX_BYTES):
        raise InvalidRequest(TOO_LARGE)
    data = answer.at_most(MAX_BYTES)
    if len(data) > MAX_BYTES:
        raise InvalidRequest(TOO_LARGE)
    return data


def _check_head(answer: http.Answer) -> None:
    if answer.status != 200:
        raise InvalidRequest(f"The image's server answered with HTTP status {answer.status}.")
    if answer.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        # A few kilobytes may unpack to gigabytes, and images gain nothing by it.
        raise InvalidRequest("The image's server compresses it, though asked not to.")


def _is_announced_larger(answer: http.Answer, max_bytes: int) -> bool:
    announced = answer.headers.get("content-length", "")
    return announced.isdecimal() and int(announced[:20]) > max_bytes


def _media_type(data: bytes) -> str:
    """Return the type that the first bytes tell; what the server or the name says is not asked."""
    for signature, media_type in SIGNATURES:
        if signature.match(data):
            return media_type
    if found := _heif_type(data):
        return found
    raise InvalidRequest(
        "What is at the image's URL is not a PNG, JPEG, WebP, GIF, HEIC or HEIF image."
    )


def _heif_type(data: bytes) -> str | None:
    """Return the type of a file whose first box has brands: its size, `ftyp`, the major one, a
    version, the others; four bytes each."""
    if data[4:8] != b"ftyp":
        return None
    size = min(int.from_bytes(data[:4], "big"), MAX_BRANDS_BYTES)
    others = {data[start : start + 4] for start in range(16, size, 4)}
    major = data[8:12]
    if major in HEIC_BRANDS or (major == b"mif1" and others & HEIC_BRANDS):
        return "image/heic"
    return "image/heif" if major == b"mif1" and b"avif" not in others else None
