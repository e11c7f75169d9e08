"""Answers that have whole images in their JSON, as base64: the images go into files as they come.

Four large images are one document of 60 MB, and a worker reads many at a time. So the body is read
in pieces, and what is kept of it in memory is the JSON around the images and no more.
"""

import binascii
import re
import secrets
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from config.settings import MIB
from models.errors import ProviderFailed
from net.answer import Answer
from providers.wire import json
from providers.wire.files import File

#: Of a body with images in it.
MAX_ANSWER_BYTES = 256 * MIB
#: Of a string, as it stands in the JSON. What is longer is an image, or nothing that we look for.
LONG_BYTES = 64 * 1024
#: Of all that is in no long string.
MAX_REST_BYTES = 2 * MIB
#: Read, which takes half a millisecond, before others have their turn.
TURN_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class SpooledImage:
    """Stands where a long string was: the file with the bytes that it was the base64 of.

    None where it was not base64 at all.
    """

    path: Path | None


def read(provider: str, answer: Answer, folder: Path) -> Any:
    """Return the JSON of an `answer` of up to 256 MiB, with a `Spooled` for each long string.

    The files are in `folder`, which whoever made it removes. `saved` makes files of all images
    alike, be they long or short. Raises as `Answer.whole` and `answers.decoded` do.
    """
    answer.limit = MAX_ANSWER_BYTES
    return parse(provider, answer.pieces(), folder)


def saved(image: Any, folder: Path) -> Path:
    """Return the file of an `image`: what was `Spooled`, or base64 or a data URL as it came.

    Raises `ProviderFailed` where it is none of these.
    """
    if isinstance(image, str):
        image = _spooled(image, folder)
    if not isinstance(image, SpooledImage) or image.path is None:
        raise ProviderFailed("The provider sent an image that is not base64.")
    return image.path


def _spooled(text: str, folder: Path) -> SpooledImage:
    image = _Image(folder)
    image.add(text.encode("ascii") if text.isascii() else None)
    return image.end()


# ---- Base64 --------------------------------------------------------------------------------------

#: The alphabet of URLs, in the usual one; and what may stand between the characters.
_STANDARD = bytes.maketrans(b"-_", b"+/")
_WHITE = b" \t\r\n"

_DATA = b"data:"
_HEADER = re.compile(rb"data:[^,]*;base64,", re.IGNORECASE)
#: Of a data URL before its comma.
_MAX_HEADER_BYTES = 1024


class _Image:
    """Base64, or a data URL, whose bytes are written to a file as it comes."""

    def __init__(self, folder: Path) -> None:
        self._file = File(folder)
        #: What may be the beginning of a data URL; None once that is decided.
        self._head: bytes | None = b""
        #: The last characters, of which there may be a group's part, or the padding.
        self._rest = b""
        self._size = 0
        self._is_broken = False

    def add(self, text: bytes | None) -> None:
        """Take what follows; None stands for what no base64 can be."""
        if self._is_broken:
            return
        try:
            self._decode(self._without_header(text))
        except ValueError:
            self.drop()

    def end(self) -> SpooledImage:
        """Return what came of it."""
        try:
            self._decode(self._head or b"")
            self._write(self._rest + b"=" * (-len(self._rest) % 4))
        except ValueError:
            self._is_broken = True
        if self._is_broken or not self._size:
            self.drop()
            return SpooledImage(None)
        self._file.close()
        return SpooledImage(self._file.path)

    def drop(self) -> None:
        self._is_broken = True
        self._file.drop()

    def _without_header(self, text: bytes | None) -> bytes:
        if text is None:
            raise ValueError
        if self._head is None:
            return text
        text = self._head + text
        if _DATA.startswith(text[: len(_DATA)].lower()) and not _is_told(text):
            self._head = text
            return b""
        self._head = None
        header = _HEADER.match(text)
        return text[header.end() :] if header else text

    def _decode(self, text: bytes) -> None:
        """Write all but the last group of four characters, behind which nothing may follow."""
        text = self._rest + text.translate(_STANDARD, _WHITE)
        end = max(0, len(text) - 1) // 4 * 4
        if b"=" in text[:end]:
            raise ValueError
        self._write(text[:end])
        self._rest = text[end:]

    def _write(self, text: bytes) -> None:
        data = binascii.a2b_base64(text, strict_mode=True)
        self._size += len(data)
        self._file.write(data)


def _is_told(text: bytes) -> bool:
    """Tell whether the header of a data URL is there, or too long to be one."""
    return b"," in text or len(text) > _MAX_HEADER_BYTES


# ---- JSON ----------------------------------------------------------------------------------------

#: All that a string can go on with, up to its end or an escape that is not there as a whole.
_INSIDE = re.compile(rb'(?:[^"\\\x00-\x1f]++|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*+')
#: `\u002b`
_ESCAPE_BYTES = 6


def parse(provider: str, pieces: Iterable[bytes], folder: Path) -> Any:
    """Return the JSON that comes in `pieces`, as `read` does."""
    reader = _Reader(provider, folder)
    try:
        for piece in _in_turns(pieces):
            reader.feed(piece)
        return reader.end()
    finally:
        reader.close()


def _in_turns(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the pieces, and let others run at times: a fast sender leaves a greenlet no pause."""
    size = 0
    for piece in pieces:
        yield piece
        size += len(piece)
        if size >= TURN_BYTES:
            time.sleep(0)
            size = 0


class _Reader:
    def __init__(self, provider: str, folder: Path) -> None:
        self._provider, self._folder = provider, folder
        #: The JSON with stand-ins, and what each of them stands for.
        self._rest = bytearray()
        self._images: dict[str, SpooledImage] = {}
        #: No provider can know what the stand-ins are called.
        self._mark = secrets.token_hex(16)
        #: The string we are in: itself while it is short, then the image.
        self._string: bytearray | None = None
        self._image: _Image | None = None
        #: The beginning of an escape.
        self._held = b""

    def feed(self, piece: bytes) -> None:
        piece, self._held = self._held + piece, b""
        place = 0
        while place < len(piece):
            ahead = self._outside if self._string is None else self._inside
            place = ahead(piece, place)

    def end(self) -> Any:
        body = json.decoded(self._provider, bytes(self._rest))
        return _with(self._images, body)

    def close(self) -> None:
        if self._image is not None:
            self._image.drop()

    def _outside(self, piece: bytes, place: int) -> int:
        end = piece.find(b'"', place)
        if end < 0:
            self._keep(piece[place:])
            return len(piece)
        self._keep(piece[place:end])
        self._string = bytearray()
        return end + 1

    def _inside(self, piece: bytes, place: int) -> int:
        found = _INSIDE.match(piece, place)
        assert found is not None
        end = found.end()
        self._go_on(piece[place:end])
        if piece[end : end + 1] == b'"':
            self._end_string()
            return end + 1
        self._held = piece[end:]
        if len(self._held) >= _ESCAPE_BYTES:
            raise ProviderFailed(f"{self._provider} sent an answer that is not JSON.")
        return len(piece)

    def _go_on(self, raw: bytes) -> None:
        assert self._string is not None
        if self._image is not None:
            self._image.add(_unescaped(raw))
            return
        self._string += raw
        if len(self._string) > LONG_BYTES:
            self._image = _Image(self._folder)
            self._image.add(_unescaped(bytes(self._string)))

    def _end_string(self) -> None:
        assert self._string is not None
        if self._image is None:
            self._keep(b'"%s"' % self._string)
        else:
            name = f"{self._mark}-{len(self._images)}"
            self._images[name] = self._image.end()
            self._keep(f'"{name}"'.encode())
        self._string = self._image = None

    def _keep(self, text: bytes) -> None:
        self._rest += text
        if len(self._rest) > MAX_REST_BYTES:
            raise ProviderFailed(f"{self._provider} sent an answer that is too large.")


def _unescaped(raw: bytes) -> bytes | None:
    """Return what is in a string's part, if it is ASCII and so can be base64."""
    if b"\\" not in raw:
        return raw
    try:
        return str(orjson.loads(b'"%s"' % raw)).encode("ascii")
    except ValueError:
        return None


def _with(images: dict[str, SpooledImage], body: Any) -> Any:
    """Return `body` with the images in the place of their stand-ins."""
    if isinstance(body, dict):
        return {name: _with(images, value) for name, value in body.items()}
    if isinstance(body, list):
        return [_with(images, value) for value in body]
    return images.get(body, body) if isinstance(body, str) else body
