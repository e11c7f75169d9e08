"""Images that callers name by URL, fetched for providers that want bytes."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import SplitResult

from config.settings import MIB
from models.errors import InvalidRequest, ProviderFailed, ProviderTimeout
from net.answer import Answer
from net.call import Call, child_call
from net.connection import Address
from providers.wire import image_fetch

MAX_BYTES = 20 * MIB
#: For all of it: names, redirects and bytes.
FETCH_SECONDS = 20.0
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
    with _explained(call, param), child_call(call, FETCH_SECONDS) as part:
        data = _follow(part, url)
        return Media(_media_type(data), data)


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


def _follow(call: Call, url: str) -> bytes:
    """Return what is at `url`, or where that leads."""
    with image_fetch.found(call, url, lambda parts: _addresses(call, parts), MAX_BYTES) as answer:
        return _body(answer)


def _addresses(call: Call, parts: SplitResult) -> Sequence[Address]:
    """Look up the host, once: the connection goes to what was checked."""
    found = image_fetch.look_up(call, parts)
    if not found or not all(image_fetch.is_public(address[4][0]) for address in found):
        # Whether there is such a host inside is nobody's business outside.
        raise InvalidRequest("The image's host has no public address. Send it as a data URL.")
    return found


def _body(answer: Answer) -> bytes:
    """Read the image, unless the headers say that it is none we can use."""
    image_fetch.check_head(answer)
    if image_fetch.is_announced_larger(answer, MAX_BYTES):
        raise InvalidRequest(TOO_LARGE)
    data = answer.at_most(MAX_BYTES)
    if len(data) > MAX_BYTES:
        raise InvalidRequest(TOO_LARGE)
    return data


def _media_type(data: bytes) -> str:
    """Return the type that the first bytes tell; what the server or the name says is not asked."""
    for signature, media_type in image_fetch.SIGNATURES:
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
