"""Fetching images that callers name by URL, for providers that only accept bytes."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import SplitResult

from config.settings import MIB
from models.errors import InvalidRequest, Overloaded, ProviderFailed, ProviderTimeout
from net import untrusted
from net.answer import Answer
from net.call import Call, child_call
from net.connection import Address
from providers.wire import image_fetch, image_room
from providers.wire.image_room import NeedsRoom, Room

MAX_BYTES = 20 * MIB
#: An image that needs more room than was reserved is fetched anew, but not for ever.
MAX_FETCHES = 3
#: For the whole fetch: name lookups, redirects and the body.
FETCH_SECONDS = 20.0
#: The brands of ISO/IEC 23008-12 for HEIC. `mif1` is shared by HEIC, HEIF and AVIF.
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
NOT_PUBLIC = "The image's host has no public address. Send it as a data URL."
TOO_LARGE = f"The image is larger than {MAX_BYTES // MIB} MiB, the most that is fetched."


@dataclass(frozen=True, slots=True)
class Media:
    """An image that was fetched."""

    #: As the bytes tell, such as `image/png`.
    media_type: str
    data: bytes


def fetch(room: Room, url: str, param: str) -> Media:
    """Fetch the image at `url`, an http or https URL; `param` is its path in the request.

    Accepts PNG, JPEG, WebP, GIF, HEIC or HEIF of up to 20 MiB, from a public address, within 20
    seconds and 3 redirects. Proxies set in the environment are not used. Raises `InvalidRequest`
    with `param` if there is no such image, or if the request's images are too large together, and
    `Overloaded` if this process has no room for it. If the call was aborted, its error is raised,
    and past its deadline `ProviderTimeout`.
    """
    for _ in range(MAX_FETCHES):
        try:
            return _fetch(room, url, param)
        except NeedsRoom as needs:
            room.reserve(needs.size)
    raise Overloaded(image_room.FULL)


def _fetch(room: Room, url: str, param: str) -> Media:
    with _as_invalid_request(room.call, param), child_call(room.call, FETCH_SECONDS) as call:
        data = _follow(call, url, room, param)
        media = Media(_media_type(data), data)
        room.keep()
        return media


@contextmanager
def _as_invalid_request(call: Call, param: str) -> Iterator[None]:
    """Turn errors of the image's server into an error of the caller's request."""
    try:
        yield
    except (InvalidRequest, ProviderFailed, ProviderTimeout) as error:
        call.check()
        raise InvalidRequest(_explanation(error), param=param) from error


def _explanation(error: InvalidRequest | ProviderFailed | ProviderTimeout) -> str:
    if isinstance(error, InvalidRequest):
        return error.message
    return LATE if isinstance(error, ProviderTimeout) else UNREACHABLE


def _follow(call: Call, url: str, room: Room, param: str) -> bytes:
    def addresses_of(parts: SplitResult) -> Sequence[Address]:
        return untrusted.public_addresses(call, parts, NOT_PUBLIC)

    with image_fetch.follow(call, url, addresses_of, MAX_BYTES) as answer:
        return _body(answer, room, param)


def _body(answer: Answer, room: Room, param: str) -> bytes:
    """Read the image into `room`.

    Raises `InvalidRequest` if the headers or the size rule it out, and `NeedsRoom`.
    """
    image_fetch.check_head(answer)
    announced = image_fetch.announced_bytes(answer)
    if announced > MAX_BYTES:
        raise InvalidRequest(TOO_LARGE)
    room.begin(announced, param)
    data = bytearray()
    for piece in answer.pieces():
        if len(data) + len(piece) > MAX_BYTES:
            raise InvalidRequest(TOO_LARGE)
        room.add(len(piece), param)
        data += piece
    return bytes(data)


def _media_type(data: bytes) -> str:
    """Return the type that the first bytes tell; the server's type and the name are ignored."""
    for signature, media_type in image_fetch.SIGNATURES:
        if signature.match(data):
            return media_type
    if heif_type := _heif_type(data):
        return heif_type
    raise InvalidRequest(
        "What is at the image's URL is not a PNG, JPEG, WebP, GIF, HEIC or HEIF image."
    )


def _heif_type(data: bytes) -> str | None:
    """Return the type of a HEIC or HEIF file, else None.

    Such a file begins with a box of four-byte fields: its size, `ftyp`, the major brand, a version,
    then the compatible brands.
    """
    if data[4:8] != b"ftyp":
        return None
    size = min(int.from_bytes(data[:4], "big"), MAX_BRANDS_BYTES)
    others = {data[start : start + 4] for start in range(16, size, 4)}
    major = data[8:12]
    if major in HEIC_BRANDS or (major == b"mif1" and others & HEIC_BRANDS):
        return "image/heic"
    return "image/heif" if major == b"mif1" and b"avif" not in others else None
