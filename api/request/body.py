"""A request's JSON body: read as it arrives, hashed on the way, and whole in memory in the end."""

import hashlib
from tempfile import SpooledTemporaryFile
from typing import Any

from flask import g, request
from gunicorn.http.errors import ParseException

from api.request.spool import MEMORY_BYTES, open_bodies, share
from api.server.body import RequestBody
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


def is_at_hand() -> bool:
    """Tell whether the whole body has arrived, so that nothing has to be waited for."""
    stream = request.environ["wsgi.input"]
    return not isinstance(stream, RequestBody) or stream.is_at_hand()


def read(account_id: int) -> bytes:
    """Return the raw body, and keep its `fingerprint`.

    Raises `RequestTooLarge`, `RequestTimeout`, `Overloaded` if the account is sending too many,
    or `InvalidRequest` if it cannot be read.
    """
    if is_at_hand():
        return _read(account_id)
    with open_bodies.taken(account_id):
        return _read(account_id)


def _read(account_id: int) -> bytes:
    digest, received = _begun_digest(), 0
    with share(account_id) as on_disk, SpooledTemporaryFile(MEMORY_BYTES) as file:
        while piece := read_piece(request.environ["wsgi.input"], PIECE_BYTES):
            received += len(piece)
            if received > settings.max_body_bytes:
                raise _too_large()
            if received > MEMORY_BYTES:
                on_disk.add(len(piece))
            digest.update(piece)
            file.write(piece)
        check_complete(received)
        file.seek(0)
        body = file.read()
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
