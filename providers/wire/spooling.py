"""Base64 spooling: reading JSON with images in it while writing the images to files.

An answer with four large images is a document of 60 MB, and a worker reads many at a time. So the
body is read in pieces, and only the JSON around the images is kept in memory.
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

#: The size of a body with images in it.
MAX_ANSWER_BYTES = 256 * MIB
#: A string that is longer in the JSON is an image, or of no interest, and goes into a file.
LONG_BYTES = 64 * 1024
#: The size of everything outside long strings.
MAX_REST_BYTES = 2 * MIB
#: After this many bytes, which take half a millisecond, other greenlets have their turn.
TURN_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class SpooledImage:
    """Replaces a long string in the JSON: the file with the decoded bytes."""

    #: None if the string was not base64.
    path: Path | None


def read(provider: str, answer: Answer, folder: Path) -> Any:
    """Return the decoded JSON of an `answer`, with a `SpooledImage` for each long string.

    The answer may have up to 256 MiB. The files are in `folder`, which the caller has to delete.
    Short images remain strings; `saved` returns a file for either. Raises as `Answer.pieces` and
    `json.decoded` do.
    """
    answer.limit = MAX_ANSWER_BYTES
    return parse(provider, answer.pieces(), folder)


def saved(image: Any, folder: Path) -> Path:
    """Return the file of an `image`: a `SpooledImage`, or a string of base64 or a data URL.

    Raises `ProviderFailed` if it is none of these.
    """
    if isinstance(image, str):
        image = _spool(image, folder)
    if not isinstance(image, SpooledImage) or image.path is None:
        raise ProviderFailed("The provider sent an image that is not base64.")
    return image.path


def _spool(text: str, folder: Path) -> SpooledImage:
    file = _Base64File(folder)
    file.add(text.encode("ascii") if text.isascii() else None)
    return file.end()


# ---- Base64 --------------------------------------------------------------------------------------

#: Translates the URL-safe alphabet into the standard one.
_STANDARD = bytes.maketrans(b"-_", b"+/")
#: May stand between the characters.
_WHITE_SPACE = b" \t\r\n"

_DATA_SCHEME = b"data:"
_HEADER = re.compile(rb"data:[^,]*;base64,", re.IGNORECASE)
#: The length of a data URL's header, which ends with the comma.
_MAX_HEADER_BYTES = 1024


class _Base64File:
    """Decodes base64, or a base64 data URL, into a file, piece by piece."""

    def __init__(self, folder: Path) -> None:
        self._file = File(folder)
        #: The text so far while it may be the header of a data URL; None once that is decided.
        self._head: bytes | None = b""
        #: The characters not decoded yet: an incomplete group, or the last one with its padding.
        self._rest = b""
        self._size = 0
        self._is_broken = False

    def add(self, text: bytes | None) -> None:
        """Decode the next piece; None stands for characters that base64 does not have."""
        if self._is_broken:
            return
        try:
            self._decode(self._without_header(text))
        except ValueError:
            self.drop()

    def end(self) -> SpooledImage:
        """Decode the rest and close the file; drop it if the text was empty or not base64."""
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
        """Delete the file and ignore what follows."""
        self._is_broken = True
        self._file.drop()

    def _without_header(self, text: bytes | None) -> bytes:
        if text is None:
            raise ValueError
        if self._head is None:
            return text
        text = self._head + text
        if _DATA_SCHEME.startswith(text[: len(_DATA_SCHEME)].lower()) and not _is_decided(text):
            self._head = text
            return b""
        self._head = None
        header = _HEADER.match(text)
        return text[header.end() :] if header else text

    def _decode(self, text: bytes) -> None:
        """Write all complete groups of four characters but the last: only that may have padding."""
        text = self._rest + text.translate(_STANDARD, _WHITE_SPACE)
        end = max(0, len(text) - 1) // 4 * 4
        if b"=" in text[:end]:
            raise ValueError
        self._write(text[:end])
        self._rest = text[end:]

    def _write(self, text: bytes) -> None:
        data = binascii.a2b_base64(text, strict_mode=True)
        self._size += len(data)
        self._file.write(data)


def _is_decided(text: bytes) -> bool:
    """Tell whether the header of a data URL is complete, or too long to be one."""
    return b"," in text or len(text) > _MAX_HEADER_BYTES


# ---- JSON ----------------------------------------------------------------------------------------

#: The rest of a string, up to its closing quote or to an incomplete escape.
_STRING_BODY = re.compile(rb'(?:[^"\\\x00-\x1f]++|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*+')
#: The length of the longest escape, such as `\u002b`.
_MAX_ESCAPE_BYTES = 6


def parse(provider: str, pieces: Iterable[bytes], folder: Path) -> Any:
    """Return the JSON that `pieces` add up to, as `read` does."""
    reader = _Reader(provider, folder)
    try:
        for piece in _in_turns(pieces):
            reader.feed(piece)
        return reader.end()
    finally:
        reader.close()


def _in_turns(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the pieces and let other greenlets run at times, as a fast sender leaves no pause."""
    size = 0
    for piece in pieces:
        yield piece
        size += len(piece)
        if size >= TURN_BYTES:
            time.sleep(0)
            size = 0


class _Reader:
    """Splits JSON into long strings, which go into files, and the rest, which it keeps."""

    def __init__(self, provider: str, folder: Path) -> None:
        self._provider, self._folder = provider, folder
        #: The JSON, with a placeholder for each long string.
        self._rest = bytearray()
        #: The image for each placeholder.
        self._images: dict[str, SpooledImage] = {}
        #: Random, so that no provider can send a string that is a placeholder.
        self._prefix = secrets.token_hex(16)
        #: The current string, as long as it is short; None outside strings.
        self._string: bytearray | None = None
        #: The file of the current string, once that is long.
        self._file: _Base64File | None = None
        #: The beginning of an escape whose end has not arrived.
        self._partial_escape = b""

    def feed(self, piece: bytes) -> None:
        """Read the next piece of the JSON."""
        piece, self._partial_escape = self._partial_escape + piece, b""
        position = 0
        while position < len(piece):
            read = self._read_outside if self._string is None else self._read_string
            position = read(piece, position)

    def end(self) -> Any:
        """Decode the JSON and put the images in the place of their placeholders."""
        body = json.decoded(self._provider, bytes(self._rest))
        return _with_images(self._images, body)

    def close(self) -> None:
        """Delete the file of a string that did not end."""
        if self._file is not None:
            self._file.drop()

    def _read_outside(self, piece: bytes, start: int) -> int:
        """Read up to the next string; return the position behind its opening quote."""
        end = piece.find(b'"', start)
        if end < 0:
            self._keep(piece[start:])
            return len(piece)
        self._keep(piece[start:end])
        self._string = bytearray()
        return end + 1

    def _read_string(self, piece: bytes, start: int) -> int:
        """Read up to the end of the string; return the position behind its closing quote."""
        match = _STRING_BODY.match(piece, start)
        assert match is not None
        end = match.end()
        self._extend_string(piece[start:end])
        if piece[end : end + 1] == b'"':
            self._end_string()
            return end + 1
        self._partial_escape = piece[end:]
        if len(self._partial_escape) >= _MAX_ESCAPE_BYTES:
            raise ProviderFailed(f"{self._provider} sent an answer that is not JSON.")
        return len(piece)

    def _extend_string(self, raw: bytes) -> None:
        assert self._string is not None
        if self._file is not None:
            self._file.add(_unescaped(raw))
            return
        self._string += raw
        if len(self._string) > LONG_BYTES:
            self._file = _Base64File(self._folder)
            self._file.add(_unescaped(bytes(self._string)))

    def _end_string(self) -> None:
        assert self._string is not None
        if self._file is None:
            self._keep(b'"%s"' % self._string)
        else:
            placeholder = f"{self._prefix}-{len(self._images)}"
            self._images[placeholder] = self._file.end()
            self._keep(f'"{placeholder}"'.encode())
        self._string = self._file = None

    def _keep(self, text: bytes) -> None:
        self._rest += text
        if len(self._rest) > MAX_REST_BYTES:
            raise ProviderFailed(f"{self._provider} sent an answer that is too large.")


def _unescaped(raw: bytes) -> bytes | None:
    """Return the text of a piece of a JSON string; None if it is not ASCII, so not base64."""
    if b"\\" not in raw:
        return raw
    try:
        return str(orjson.loads(b'"%s"' % raw)).encode("ascii")
    except ValueError:
        return None


def _with_images(images: dict[str, SpooledImage], body: Any) -> Any:
    """Return `body` with the images in the place of their placeholders."""
    if isinstance(body, dict):
        return {name: _with_images(images, value) for name, value in body.items()}
    if isinstance(body, list):
        return [_with_images(images, value) for value in body]
    return images.get(body, body) if isinstance(body, str) else body
