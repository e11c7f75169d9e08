"""A request's JSON body: read as it arrives, hashed on the way, and whole in memory in the end."""

import hashlib
from typing import Any

from flask import g, request
from gunicorn.http.errors import ParseException

from config.settings import settings
from models.errors import InvalidRequest, RequestTooLarge

PIECE_BYTES = 64 * 1024
#: Some editors begin a file with it; RFC 8259 lets a parser ignore it.
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def check_declared_size() -> None:
    """Raise `RequestTooLarge` if the size that the request declares is."""
    if (request.content_length or 0) > settings.max_body_bytes:
        raise _too_large()


def _too_large() -> RequestTooLarge:
    return RequestTooLarge(
        f"The body is too large: at most {settings.max_body_bytes} bytes are taken."
    )


def read() -> bytes:
    """Return the raw body, and keep its `fingerprint`.

    Raises `RequestTooLarge`, `RequestTimeout`, or `InvalidRequest` if it cannot be read.
    """
    digest = _begun_digest()
    pieces, received = [], 0
    while piece := read_piece(request.environ["wsgi.input"], PIECE_BYTES):
        received += len(piece)
        if received > settings.max_body_bytes:
            raise _too_large()
        digest.update(piece)
        pieces.append(piece)
    check_complete(received)
    body = b"".join(pieces)
    if body.startswith(BYTE_ORDER_MARK):
        body = body.removeprefix(BYTE_ORDER_MARK)
        digest = _begun_digest()
        digest.update(body)
    g.fingerprint = digest.hexdigest()
    return body


def _begun_digest() -> Any:
    return hashlib.sha256(request.path.encode() + b"\n")


def fingerprint() -> str:
    """Return the SHA-256 of the request's path and raw body, in hex, once that was read."""
    fingerprint: str = g.fingerprint
    return fingerprint


def read_piece(stream: Any, size: int) -> bytes:
    """Return up to `size` bytes of a body; raise `InvalidRequest` if it cannot be read."""
    try:
        piece: bytes = stream.read(size)
    except (ParseException, OSError) as error:
        raise InvalidRequest(f"The body cannot be read: {error}.") from None
    return piece


def check_complete(received: int) -> None:
    """Raise `InvalidRequest` if fewer bytes were `received` than the request declares."""
    declared = request.content_length
    if declared is not None and received < declared:
        raise InvalidRequest(
            f"The body ended after {received} of the {declared} bytes that were announced."
        )
