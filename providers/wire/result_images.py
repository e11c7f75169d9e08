"""Downloading, side by side, the images that providers answer with as URLs."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from config.settings import MIB
from models.errors import InvalidRequest, LikeDoError, ProviderFailed, ProviderTimeout
from net import answer as net_answer
from net import untrusted
from net.answer import Answer
from net.call import Call, child_call
from net.connection import Address
from providers.wire import files, image_fetch, spooling
from providers.wire.spooling import SpooledImage

MAX_RESULT_BYTES = 64 * MIB
#: For all attempts to download one image together.
DOWNLOAD_SECONDS = 60.0
#: Seconds before each retry.
RETRY_PAUSES = (0.25, 1.0)
#: The bytes at the beginning of a file that tell its format.
SIGNATURE_BYTES = 12


def download(call: Call, url: str | SpooledImage, folder: Path, trusted_base_url: str) -> Path:
    """Download the image at `url`, which a provider answered with, into a new file in `folder`.

    Accepts PNG, JPEG, WebP or GIF of up to 64 MiB, within 60 seconds and 3 redirects, from a public
    address or an address of the host of `trusted_base_url`. A data URL, as text or as a
    `SpooledImage`, is decoded. Downloading costs nothing, so it is retried twice if the connection
    or the server fails.

    If `call` was aborted, its error is raised; `ProviderFailed` if there is no such image, and
    `ProviderTimeout` if it does not come in time.
    """
    if isinstance(url, SpooledImage) or url[:5].lower() == "data:":
        return spooling.saved(url, folder)
    with _as_provider_errors(call), child_call(call, DOWNLOAD_SECONDS) as download_call:
        for pause in RETRY_PAUSES:
            try:
                return _into_file(download_call, url, folder, trusted_base_url)
            except ProviderFailed:
                download_call.wait(pause)
        return _into_file(download_call, url, folder, trusted_base_url)


def side_by_side(downloads: Sequence[Callable[[], Path]]) -> list[Path | LikeDoError]:
    """Run all `downloads` at once; return for each, in order, its file or the provider's failure.

    Any other error is raised, such as the one that a call was aborted with.
    """
    if len(downloads) == 1:
        return [_file_or_error(downloads[0])]
    with ThreadPoolExecutor(max_workers=len(downloads)) as pool:
        return list(pool.map(_file_or_error, downloads))


def _file_or_error(download: Callable[[], Path]) -> Path | LikeDoError:
    try:
        return download()
    except (ProviderFailed, ProviderTimeout) as error:
        return error


@contextmanager
def _as_provider_errors(call: Call) -> Iterator[None]:
    """Turn errors of the image's server into errors of the provider."""
    try:
        yield
    except (InvalidRequest, ProviderFailed) as error:
        call.check()
        raise ProviderFailed("The image that the provider made could not be fetched.") from error
    except ProviderTimeout as error:
        call.check()
        raise ProviderTimeout("The image that the provider made did not come in time.") from error


def _into_file(call: Call, url: str, folder: Path, trusted_base_url: str) -> Path:
    def addresses_of(parts: SplitResult) -> Sequence[Address]:
        return _checked_addresses(call, parts, trusted_base_url)

    with image_fetch.follow(call, url, addresses_of, MAX_RESULT_BYTES) as answer:
        if answer.status >= 500 or answer.status == 429:
            raise ProviderFailed(f"The image's server failed (HTTP {answer.status}).")
        image_fetch.check_head(answer)
        with files.new_file(folder) as file:
            for piece in _checked_image(_bounded(answer, MAX_RESULT_BYTES)):
                file.write(piece)
        return file.path


def _checked_addresses(call: Call, parts: SplitResult, trusted: str) -> Sequence[Address]:
    """Look up the host of a result; raise `ProviderFailed` if a retry may help."""
    addresses = untrusted.resolve(call, parts, of_result=True)
    if not addresses:
        raise ProviderFailed("The image's host has no address.")
    private = {address[4][0] for address in addresses if not untrusted.is_public(address)}
    if private and not _is_trusted(call, parts, private, urlsplit(trusted)):
        raise InvalidRequest("The image's host is not a public one.")
    return addresses


def _is_trusted(call: Call, parts: SplitResult, private: set[str], trusted: SplitResult) -> bool:
    """Tell whether this is the `trusted` host, on any port, by its name or its addresses."""
    if parts.hostname == trusted.hostname:
        return True
    trusted_addresses = untrusted.resolve(call, trusted, of_result=True)
    return private <= {address[4][0] for address in trusted_addresses}


def _bounded(answer: Answer, max_bytes: int) -> Iterator[bytes]:
    """Yield the body in pieces; raise `InvalidRequest` if it is longer than `max_bytes`."""
    if image_fetch.announced_bytes(answer) > max_bytes:
        raise InvalidRequest("The image is too large.")
    # One piece more than is accepted, to tell an image that is too large from a broken connection.
    answer.limit = max_bytes + net_answer.READ_BYTES
    size = 0
    for piece in answer.pieces():
        size += len(piece)
        if size > max_bytes:
            raise InvalidRequest("The image is too large.")
        yield piece


def _checked_image(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the bytes of `pieces`; raise `InvalidRequest` if they do not begin like an image."""
    head = b""
    for piece in pieces:
        head += piece
        if len(head) >= SIGNATURE_BYTES:
            break
    if not any(signature.match(head) for signature, _ in image_fetch.SIGNATURES):
        raise InvalidRequest("What was fetched is not a PNG, JPEG, WebP or GIF image.")
    yield head
    yield from pieces
