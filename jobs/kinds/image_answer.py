"""Render an image job's answer for its caller: each image as a link, or as base64 from storage.

The stored answer only names its images. Links are made when the answer is delivered, so that those
with a lifetime are fresh. Base64 is read and encoded in pieces, so that memory never holds a whole
image.
"""

import base64
import secrets
from collections.abc import Iterator
from typing import Any

import gevent
import orjson

import storage
from config.settings import settings
from jobs.kinds.kind import Rendered
from storage import media
from storage.backend import Pieces

#: Links that are made before other greenlets have their turn.
LINKS_PER_TURN = 100


def render(body: bytes, base_url: str) -> Rendered:
    """Render the stored answer `body`.

    Links to images begin with `base_url`, unless `PUBLIC_URL` or the storage decides that.
    """
    answer = orjson.loads(body)
    response_formats = answer.pop("forms")
    # A placeholder for base64 that occurs nowhere else.
    placeholder = secrets.token_hex(16)
    files = [
        _open_file(datum["media"]) if "b64_json" in response_formats else None
        for datum in answer["data"]
    ]
    answer["data"] = [
        _datum(datum, response_formats, base_url, placeholder if file else None)
        for datum, file in zip(_by_turns(answer["data"]), files, strict=True)
    ]
    texts = orjson.dumps(answer).split(placeholder.encode())
    stored = [file for file in files if file is not None]
    length = sum(map(len, texts)) + sum(_encoded_size(size) for size, _ in stored)
    return length, _pieces(texts, [pieces for _, pieces in stored])


def _by_turns(data: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield all `data`, letting other greenlets run: signing an S3 link takes long."""
    for number, datum in enumerate(data, 1):
        yield datum
        if number % LINKS_PER_TURN == 0:
            gevent.sleep(0)


def _pieces(texts: list[bytes], files: list[Pieces]) -> Iterator[bytes]:
    try:
        yield texts[0]
        for file, text in zip(files, texts[1:], strict=True):
            for piece in file:
                yield base64.b64encode(piece)
            yield text
    finally:
        for file in files:
            file.close()


def _datum(
    datum: dict[str, Any], response_formats: list[str], base_url: str, placeholder: str | None
) -> dict[str, Any]:
    """Return the entry of one image; its `b64_json` is the placeholder, or null if it is gone."""
    shown: dict[str, Any] = {}
    if "url" in response_formats:
        shown["url"] = _url(datum["media"], base_url)
    if "b64_json" in response_formats:
        shown["b64_json"] = placeholder
    return shown | {name: value for name, value in datum.items() if name != "media"}


def _open_file(name: str) -> tuple[int, Pieces] | None:
    return storage.backend().pieces(media.file_of(name))


def _encoded_size(size: int) -> int:
    """Return how many bytes of base64 `size` bytes make."""
    return 4 * -(-size // 3)


def _url(name: str, base_url: str) -> str:
    path = media.file_of(name)
    return storage.backend().url(path) or f"{settings.public_url or base_url}/{path}"
