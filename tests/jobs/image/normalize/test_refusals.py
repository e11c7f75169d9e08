"""What is no image, or too much of one, is an error."""

import struct
import tracemalloc
import warnings
import zlib
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from jobs.image.normalize import MAX_READS, START_OF_SCAN, normalize_image
from models.errors import ProviderFailed, Unavailable
from models.image import Size
from tests.jobs.image.normalize.studio import Studio, encoded, glass, halves, told_much


@pytest.mark.parametrize("format_name", ["PNG", "JPEG", "WEBP", "GIF"])
@pytest.mark.parametrize("kept", [0.02, 0.3, 0.7, 0.98])
def test_a_file_that_was_cut_off_is_refused(studio: Studio, format_name: str, kept: float) -> None:
    content = encoded(Image.effect_noise((256, 256), 80).convert("RGB"), format_name)

    error = studio.refuses(content[: int(len(content) * kept)])

    assert error.message == "The provider's image cannot be read."
    assert error.__cause__ is not None


def test_a_png_that_lacks_its_end_is_refused(studio: Studio) -> None:
    studio.refuses(encoded(halves(), "PNG")[:-12])


def test_a_png_with_one_bit_that_fell_is_refused(studio: Studio) -> None:
    content = bytearray(encoded(halves(), "PNG", compress_level=0))
    content[len(content) // 2] ^= 1

    studio.refuses(bytes(content))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff",
        b"RIFF\x10\0\0\0WEBPVP8 ",
        b"GIF89a",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"<html>Not found</html>",
        b'{"error": "no"}',
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        b"P6 1 1 255 abc",
        bytes(100_000),
    ],
)
def test_what_is_no_image_is_refused(studio: Studio, content: bytes) -> None:
    studio.refuses(content)


@pytest.mark.parametrize(
    "format_name", ["BMP", "TIFF", "PPM", "ICO", "TGA", "PCX", "JPEG2000", "AVIF", "EPS"]
)
def test_an_image_of_any_other_format_is_refused(studio: Studio, format_name: str) -> None:
    studio.refuses(encoded(halves(), format_name))


def png(width: int, height: int, data: bytes) -> bytes:
    """Return a PNG, one bit a pixel, that promises this size, whatever its data."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content))
            + name
            + content
            + struct.pack(">I", zlib.crc32(name + content))
        )

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        chunk(*one) for one in ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    )


@pytest.mark.parametrize(
    ("width", "height"),
    [(4097, 4096), (9000, 9000), (20_000, 20_000), (65_535, 65_535), (2**31 - 1, 2**31 - 1)],
)
def test_an_image_that_would_fill_the_memory_is_refused_unread(
    studio: Studio, width: int, height: int
) -> None:
    content = png(width, height, zlib.compress(bytes(1000)))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        error = studio.refuses(content)

    assert "too large" in error.message or error.__cause__ is not None


def test_the_largest_image_is_read(studio: Studio) -> None:
    row = bytes(1 + 4096 // 8)
    content = png(4096, 4096, zlib.compress(row * 4096))

    assert studio.finish(content, "16x16").width == 16
    assert studio.refuses(png(4096, 4097, zlib.compress(row))).message == (
        "The provider's image of 4096x4097 is too large to be read."
    )


def test_a_webp_that_promises_too_much_is_refused(studio: Studio) -> None:
    content = bytearray(encoded(glass(), "WEBP", exif=b"Exif\0\0x"))
    assert content[12:16] == b"VP8X"
    content[24:30] = b"\xff\x3f\0\xff\x3f\0"

    studio.refuses(bytes(content))


def test_a_text_that_unpacks_to_gigabytes_is_not_unpacked(studio: Studio) -> None:
    bomb = zlib.compress(bytes(100_000_000))
    text = PngImagePlugin.PngInfo()
    text.add(b"zTXt", b"Comment\0\0" + bomb)

    tracemalloc.start()
    try:
        studio.refuses(encoded(halves(), "PNG", pnginfo=text))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert most < 20_000_000


def test_an_error_keeps_nothing_of_the_image(studio: Studio) -> None:
    content = encoded(Image.effect_noise((512, 512), 80).convert("RGB"), "PNG")

    error = studio.refuses(content[: len(content) // 2])

    assert error.__cause__ is not None
    assert not _holds_an_image(error) and not _holds_an_image(error.__cause__)


def _holds_an_image(error: BaseException) -> bool:
    frames = []
    trace = error.__traceback__
    while trace is not None:
        frames.append(trace.tb_frame)
        trace = trace.tb_next
    return any(isinstance(value, Image.Image) for one in frames for value in one.f_locals.values())


def test_a_target_that_cannot_be_written_is_not_the_provider_s_fault(studio: Studio) -> None:
    studio.target.mkdir()
    studio.source.write_bytes(encoded(halves(), "PNG"))

    with pytest.raises(Unavailable):
        normalize_image(studio.source, studio.target, Size(64, 64), "png", 100)


SEEDS = {name: encoded(halves(16, 16), name) for name in ("PNG", "JPEG", "WEBP", "GIF")} | {
    "exif": told_much("JPEG"),
    "text": told_much("PNG"),
}


def ends_well(studio: Studio, content: bytes) -> None:
    """Finish an image, or be told by the one error that stands for its provider."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of broken EXIF and of bombs.
        try:
            finished = studio.finish(content, "8x8")
        except ProviderFailed:
            return
    assert (finished.width, finished.height) == (8, 8)


a_few = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@a_few
@given(
    start=st.sampled_from([b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"GIF89a", b"RIFF", b""]),
    content=st.binary(max_size=400),
)
def test_random_bytes_end_well(studio: Studio, start: bytes, content: bytes) -> None:
    ends_well(studio, start + content)


@a_few
@given(name=st.sampled_from(sorted(SEEDS)), data=st.data())
def test_images_with_random_damage_end_well(studio: Studio, name: str, data: Any) -> None:
    content = bytearray(SEEDS[name])
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
        if not content:
            break

    ends_well(studio, bytes(content))


@pytest.mark.parametrize("name", sorted(SEEDS))
def test_every_single_byte_may_be_wrong(studio: Studio, name: str) -> None:
    seed = SEEDS[name]
    for at in range(0, len(seed), max(1, len(seed) // 300)):
        ends_well(studio, seed[:at] + bytes([seed[at] ^ 0xFF]) + seed[at + 1 :])


def test_a_jpeg_of_endless_scans_is_refused_before_it_is_decoded(studio: Studio) -> None:
    content = encoded(Image.effect_noise((64, 64), 80).convert("RGB"), "JPEG", progressive=True)
    tables = content.rindex(b"\xff\xc4", 0, content.rindex(START_OF_SCAN))
    last_scan = content[tables:-2]

    few, many = (content[:-2] + last_scan * count + content[-2:] for count in (50, 5000))

    studio.finish(few)
    assert "too many scans" in studio.refuses(many).message


def test_an_image_of_endless_empty_segments_is_refused(studio: Studio) -> None:
    error = studio.refuses(b"\xff\xd8" + b"\xff\xe5\0\2" * MAX_READS)

    assert "too long" in error.message
