"""Following redirects to an image, each to a host whose addresses were checked."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from models.errors import InvalidRequest
from net import public_hosts, untrusted
from net.answer import Answer
from net.call import Call
from net.connection import Address

MAX_REDIRECTS = 3
REDIRECTS = {301, 302, 303, 307, 308}

#: The same for all callers: these servers must not be able to tell callers apart.
HEADERS = {"Accept": "image/*", "Accept-Encoding": "identity", "User-Agent": "likedo/1"}
ASCII = "".join(map(chr, range(128)))

SIGNATURES = [
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "image/png"),
    (re.compile(rb"\xff\xd8\xff"), "image/jpeg"),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), "image/webp"),
    (re.compile(rb"GIF8[79]a"), "image/gif"),
]


@contextmanager
def follow(
    call: Call, url: str, addresses_of: Callable[[SplitResult], Sequence[Address]], max_bytes: int
) -> Iterator[Answer]:
    """Give the answer at `url`, after up to 3 redirects.

    `addresses_of` returns the addresses to connect to for a URL, or raises if it is not allowed.
    Raises `InvalidRequest` for a URL or a redirect that is not valid.
    """
    for _ in range(1 + MAX_REDIRECTS):
        parts = _checked(url)
        with untrusted.get(call, parts.geturl(), addresses_of(parts), HEADERS, max_bytes) as answer:
            if answer.status not in REDIRECTS:
                yield answer
                return
            url = _redirect_target(parts, answer)
    raise InvalidRequest(f"The image's URL redirects more than {MAX_REDIRECTS} times.")


def _checked(url: str) -> SplitResult:
    return public_hosts.parse_url(url, "The image's URL")


def _redirect_target(parts: SplitResult, answer: Answer) -> str:
    # http.client decodes headers as Latin-1, which keeps the bytes. ASCII is not quoted.
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


def check_head(answer: Answer) -> None:
    """Raise `InvalidRequest` if the status is not 200 or the body is compressed."""
    if answer.status != 200:
        raise InvalidRequest(f"The image's server answered with HTTP status {answer.status}.")
    if answer.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        # A few kilobytes may decompress to gigabytes, and images gain nothing from compression.
        raise InvalidRequest("The image's server compresses it, though asked not to.")


def announced_bytes(answer: Answer) -> int:
    """Return the bytes of the body by `Content-Length`; 0 if that does not say."""
    announced = answer.headers.get("content-length", "")
    return int(announced[:20]) if announced.isdecimal() else 0
