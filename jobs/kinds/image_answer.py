"""An image job's answer as callers get it: each image as a link, or as base64 read from storage.

What a job keeps names its images. Links are made when they are handed over, so that those with a
lifetime are fresh, and base64 is read and encoded in pieces, so that no image is ever in memory.
"""

import base64
import secrets
from collections.abc import Iterator
from typing import Any

import gevent
import orjson

import storage
from config.settings import settings
from storage import media
from storage.backend import Pieces

#: Links that are made without a pause for others.
TURN_LINKS = 100


def rendered(body: bytes, address: str) -> tuple[int, Iterator[bytes]]:
    """Return the answer that a job keeps as `body`: its bytes' count, and the bytes, in pieces.

    `address`: where links begin, unless `PUBLIC_URL` or the storage say where.
    """
    kept = orjson.loads(body)
    forms = kept.pop("forms")
    # Stands where base64 is to come, and nowhere else.
    mark = secrets.token_hex(16)
    files = [_file(datum["media"]) if "b64_json" in forms else None for datum in kept["data"]]
    kept["data"] = [
        _datum(datum, forms, address, mark if file else None)
        for datum, file in zip(_by_turns(kept["data"]), files, strict=True)
    ]
    texts = orjson.dumps(kept).split(mark.encode())
    there = [file for file in files if file is not None]
    length = sum(map(len, texts)) + sum(_encoded_size(size) for size, _ in there)
    return length, _pieces(texts, [pieces for _, pieces in there])


def _by_turns(data: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield all `data` and let others run at times: a link of S3's is signed, which takes long."""
    for number, datum in enumerate(data, 1):
        yield datum
        if number % TURN_LINKS == 0:
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
    datum: dict[str, Any], forms: list[str], address: str, mark: str | None
) -> dict[str, Any]:
    """Return what is shown of an image, with a mark for its base64; null where it is gone."""
    shown: dict[str, Any] = {}
    if "url" in forms:
        shown["url"] = url_of(datum["media"], address)
    if "b64_json" in forms:
        shown["b64_json"] = mark
    return shown | {name: value for name, value in datum.items() if name != "media"}


def _file(name: str) -> tuple[int, Pieces] | None:
    return storage.backend().pieces(media.file_of(name))


def _encoded_size(size: int) -> int:
    """Return the bytes of base64 for `size` bytes."""
    return 4 * -(-size // 3)


def url_of(name: str, address: str) -> str:
    """Return the address of an image."""
    path = media.file_of(name)
    return storage.backend().url(path) or f"{settings.public_url or address}/{path}"
