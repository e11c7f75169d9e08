"""Nothing but its pixels is left of what a provider sent."""

import re
import struct
from collections.abc import Iterator

import pytest
from PIL import Image

from tests.jobs.image.normalize.studio import (
    MEDIA_TYPES,
    SECRET,
    Studio,
    encoded,
    halves,
    told_much,
)

#: The parts of a file that are its pixels; in JPEG, JFIF, tables, the frame and its scan.
PIXELS = {
    "png": {"IHDR", "IDAT", "IEND"},
    "webp": {"VP8 ", "VP8L"},
    "jpeg": {"e0", "db", "c0", "c4", "da"},
}


@pytest.mark.parametrize("came_as", ["PNG", "JPEG", "WEBP", "GIF"])
def test_nothing_but_pixels_is_left(
    studio: Studio, came_as: str, subtests: pytest.Subtests
) -> None:
    for output_format in MEDIA_TYPES:
        for size in ("64x64", "32x32"):
            with subtests.test(f"{output_format} {size}"):
                studio.finish(told_much(came_as), size, output_format)

                made = studio.target.read_bytes()
                assert SECRET.encode() not in made
                assert parts(made) <= PIXELS[output_format]


def test_the_metadata_was_there_before(studio: Studio) -> None:
    found = {name: parts(told_much(name)) for name in ("PNG", "JPEG", "WEBP")}

    assert {"eXIf", "tEXt", "zTXt", "iTXt", "caBX", "iCCP", "pHYs", "tIME"} <= found["PNG"]
    assert {"e1", "e2", "eb", "fe"} <= found["JPEG"]
    assert {"EXIF", "XMP ", "ICCP"} <= found["WEBP"]


def parts(content: bytes) -> set[str]:
    """Return the names of an image file's chunks, or of a JPEG's segments."""
    if content.startswith(b"\x89PNG"):
        return set(_chunks(content, 8, ">I4s", 12))
    if content.startswith(b"RIFF"):
        return set(_chunks(content, 12, "<4sI", 8))
    head = content[: content.index(b"\xff\xda") + 2]
    return {match[1].hex() for match in re.finditer(rb"\xff([\xc0-\xfe])", head)} - {"d8"}


def _chunks(content: bytes, at: int, form: str, around: int) -> Iterator[str]:
    while at < len(content):
        first, second = struct.unpack_from(form, content, at)
        name, length = (first, second) if isinstance(first, bytes) else (second, first)
        yield name.decode("latin-1")
        at += around + length + (length % 2 if form.startswith("<") else 0)


@pytest.mark.parametrize("output_format", ["jpeg", "webp"])
def test_less_quality_takes_fewer_bytes_and_the_best_is_sane(
    studio: Studio, output_format: str
) -> None:
    noise = Image.effect_noise((256, 256), 60).convert("RGB")
    content = encoded(noise, "PNG")

    sizes = [
        studio.finish(content, "256x256", output_format, quality).bytes
        for quality in (0, 1, 20, 60, 90, 95, 100)
    ]

    assert sizes[0] == sizes[1] < sizes[2] < sizes[3] < sizes[4] < sizes[5] == sizes[6]
    assert sizes[6] < len(content)


def test_a_jpeg_of_good_quality_keeps_the_colour_of_each_pixel(studio: Studio) -> None:
    studio.finish(encoded(halves(65), "PNG"), "65x64", "jpeg", 100)
    good = studio.target.read_bytes()
    studio.finish(encoded(halves(65), "PNG"), "65x64", "jpeg", 50)

    assert (_sampling(good), _sampling(studio.target.read_bytes())) == (0x11, 0x22)


def _sampling(content: bytes) -> int:
    """Return how a JPEG samples its brightness against its colours, from its frame header."""
    return content[content.index(b"\xff\xc0") + 11]
