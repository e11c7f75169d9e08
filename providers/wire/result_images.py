"""Images that providers answer with as URLs, downloaded side by side."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from config.settings import MIB
from models.errors import InvalidRequest, LikeDoError, ProviderFailed, ProviderTimeout
from net import answer as net_answer
from net.answer import Answer
from net.call import Call, child_call
from net.connection import Address
from providers.wire import files, image_fetch, spooling
from providers.wire.spooling import SpooledImage

#: The same of an image that a provider made, all attempts together, and the pauses between them.
MAX_RESULT_BYTES = 64 * MIB
DOWNLOAD_SECONDS = 60.0
RETRY_PAUSES = (0.25, 1.0)
#: Of what is read to know a format by.
SIGNATURE_BYTES = 12


def download(call: Call, url: str | SpooledImage, folder: Path, trusted_base_url: str) -> Path:
    """Fetch the image at `url`, which a provider answered with, into a new file in `folder`.

    PNG, JPEG, WebP or GIF of up to 64 MiB, within 60 seconds and 3 redirects, from a public
    address or one of the host of `trusted_base_url`. A data URL is taken apart, `Spooled` or not.
    Fetching costs nothing: where the connection or the server fails, it is tried twice more.
    Raises what `call` was aborted with, `ProviderFailed` where there is no such image, and
    `ProviderTimeout` where it does not come in time.
    """
    if isinstance(url, SpooledImage) or url[:5].lower() == "data:":
        return spooling.saved(url, folder)
    with _blamed(call), child_call(call, DOWNLOAD_SECONDS) as part:
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
    def reach(parts: SplitResult) -> Sequence[Address]:
        return _addresses_of_result(call, parts, trusted_base_url)

    with image_fetch.found(call, url, reach, MAX_RESULT_BYTES) as answer:
        if answer.status >= 500 or answer.status == 429:
            raise ProviderFailed(f"The image's server failed (HTTP {answer.status}).")
        image_fetch.check_head(answer)
        with files.new_file(folder) as file:
            for piece in _image(_bounded(answer, MAX_RESULT_BYTES)):
                file.write(piece)
        return file.path


def _addresses_of_result(call: Call, parts: SplitResult, trusted: str) -> Sequence[Address]:
    """Look up the host of a result; raise `ProviderFailed` where asking again may help."""
    found = image_fetch.look_up(call, parts, of_result=True)
    if not found:
        raise ProviderFailed("The image's host has no address.")
    inside = {address[4][0] for address in found if not image_fetch.is_public(address[4][0])}
    if inside and not _is_at(call, parts, inside, urlsplit(trusted)):
        raise InvalidRequest("The image's host is not a public one.")
    return found


def _is_at(call: Call, parts: SplitResult, addresses: set[str], trusted: SplitResult) -> bool:
    """Tell whether this is the `trusted` host, on whatever port, by its name or its addresses."""
    if parts.hostname == trusted.hostname:
        return True
    trusted_ones = image_fetch.look_up(call, trusted, of_result=True)
    return addresses <= {address[4][0] for address in trusted_ones}


def _bounded(answer: Answer, max_bytes: int) -> Iterator[bytes]:
    """Yield the body as it comes, unless there is too much of it."""
    if image_fetch.is_announced_larger(answer, max_bytes):
        raise InvalidRequest("The image is too large.")
    # One piece more than is taken, so that too much of it is told from a connection that fails.
    answer.limit = max_bytes + net_answer.READ_BYTES
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
    if not any(signature.match(head) for signature, _ in image_fetch.SIGNATURES):
        raise InvalidRequest("What was fetched is not a PNG, JPEG, WebP or GIF image.")
    yield head
    yield from pieces
