"""Answers with images in their JSON, parsed into a folder."""

import base64
from pathlib import Path
from typing import Any

from providers.wire import spooling
from providers.wire.spooling import SpooledImage

LARGE = bytes(range(256)) * 200
SMALL = b"\x89PNG\r\n\x1a\n"
#: What a worker may have in memory for 16 jobs is 400 MiB.
MEMORY_BYTES = 12 * 2**20


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def parse(body: bytes | str, folder: Path, size: int = 65536) -> Any:
    content = body.encode() if isinstance(body, str) else body
    pieces = (content[start : start + size] for start in range(0, len(content), size))
    return spooling.parse("vendor", pieces, folder)


def kept(value: Any) -> bytes | None:
    """Return the bytes of an image; None where it is broken."""
    assert isinstance(value, SpooledImage)
    return value.path.read_bytes() if value.path else None


def image_in(string: str, folder: Path) -> Any:
    """Return what becomes of a string of JSON, given as it stands there."""
    return parse(f'{{"image": "{string}"}}', folder)["image"]


LONG = text(LARGE)
