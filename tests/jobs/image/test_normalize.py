"""What providers send becomes an image of the right size that anybody can read, or an error."""

import io
import re
import struct
import threading
import tracemalloc
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, PngImagePlugin

from jobs.image import normalize
from jobs.image.normalize import normalize_image
from models.errors import ProviderFailed, Unavailable
from models.image import Size
from storage.media import NormalizedImage

RED, BLUE = (200, 30, 40), (20, 60, 220)
#: How far a colour may be off after a lossy format.
NEAR = 12

MEDIA_TYPES = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}


class Studio:
    """Makes images ours, in a folder of a test's own."""

    def __init__(self, folder: Path) -> None:
        self.source = folder / "source"
        self.target = folder / "target"

    def finish(
        self,
        content: bytes,
        size: str = "64x64",
        output_format: str = "png",
        quality: int = 100,
    ) -> NormalizedImage:
        self.source.write_bytes(content)
        self.target.unlink(missing_ok=True)
        return normalize_image(self.source, self.target, Size.read(size), output_format, quality)

    def read(self) -> Image.Image:
        """Return what was made, decoded."""
        with Image.open(self.target) as image:
            image.load()
            return image.copy()

    def refuses(self, content: bytes) -> ProviderFailed:
        with pytest.raises(ProviderFailed) as caught:
            self.finish(content)
        assert not self.target.exists()
        assert str(self.source) not in caught.value.message
        return caught.value


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    return Studio(tmp_path)


def encoded(image: Image.Image, format_name: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format_name, **options)
    return file.getvalue()


def halves(width: int = 64, height: int = 64, mode: str = "RGB") -> Image.Image:
    """Return an image that is red on the left and blue on the right."""
    image = Image.new("RGB", (width, height), RED)
    image.paste(BLUE, (width // 2, 0, width, height))
    return image.convert(mode)


def colour(image: Image.Image, x: int, y: int) -> tuple[int, ...]:
    found = image.getpixel((x, y))
    assert isinstance(found, tuple)
    return found


def is_near(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    return all(abs(a - b) <= NEAR for a, b in zip(one, other, strict=True))


# ---- Formats, modes and sizes --------------------------------------------------------------------


@pytest.mark.parametrize("output_format", MEDIA_TYPES)
@pytest.mark.parametrize("came_as", ["PNG", "JPEG", "WEBP", "GIF"])
def test_each_format_becomes_each_other(studio: Studio, came_as: str, output_format: str) -> None:
    finished = studio.finish(encoded(halves(), came_as), output_format=output_format)

    image = studio.read()
    assert finished == NormalizedImage(
        MEDIA_TYPES[output_format], studio.target.stat().st_size, image.width, image.height
    )
    assert (image.format, image.mode) == (None, "RGB")
    assert is_near(colour(image, 5, 5), RED)
    assert is_near(colour(image, 58, 58), BLUE)


#: (width and height of what came, the size that was asked for)
SIZES = [
    (64, 64, "64x64"),
    (1024, 1024, "256x256"),
    (1024, 1024, "1000x1000"),
    (8, 8, "512x512"),
    (200, 100, "50x100"),
    (100, 200, "100x50"),
    (1, 1, "64x64"),
    (4096, 1, "16x16"),
    (1, 4096, "16x16"),
    (333, 777, "123x457"),
    (1536, 1024, "1024x1024"),
]


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_the_size_is_exactly_what_was_asked_for(
    studio: Studio, mode: str, subtests: pytest.Subtests
) -> None:
    for wide, high, size in SIZES:
        with subtests.test(f"{wide}x{high} to {size}"):
            finished = studio.finish(encoded(Image.new(mode, (wide, high)), "PNG"), size)

            assert str(Size(finished.width, finished.height)) == size
            assert studio.read().size == (finished.width, finished.height)


def test_an_image_of_another_shape_loses_both_ends(studio: Studio) -> None:
    image = Image.new("RGB", (300, 100), BLUE)
    image.paste(RED, (100, 0, 200, 100))

    studio.finish(encoded(image, "PNG"), "50x50")

    colours = studio.read().getcolors()
    assert colours is not None
    assert all(is_near(colour, RED) for _, colour in colours)


def test_scaling_down_averages_and_does_not_drop(studio: Studio) -> None:
    stripes = Image.new("L", (512, 512))
    stripes.putdata([255 * (x % 2) for x in range(512)] * 512)

    studio.finish(encoded(stripes, "PNG"), "128x128")

    least, most = studio.read().getchannel("R").getextrema()
    assert least > 110 and most < 145


#: Each mode of Pillow's, in a format that has it.
MODES = [
    ("1", "PNG"),
    ("L", "PNG"),
    ("LA", "PNG"),
    ("P", "PNG"),
    ("PA", "PNG"),
    ("RGB", "PNG"),
    ("RGBA", "PNG"),
    ("I;16", "PNG"),
    ("L", "JPEG"),
    ("CMYK", "JPEG"),
    ("YCbCr", "JPEG"),
    ("L", "GIF"),
    ("P", "GIF"),
    ("RGBA", "GIF"),
    ("RGBA", "WEBP"),
    ("L", "WEBP"),
]


@pytest.mark.parametrize("output_format", MEDIA_TYPES)
def test_every_mode_is_taken(studio: Studio, output_format: str, subtests: pytest.Subtests) -> None:
    for mode, format_name in MODES:
        with subtests.test(f"{mode} {format_name}"):
            studio.finish(encoded(_in(mode), format_name), "32x32", output_format)

            image = studio.read()
            assert image.mode == "RGB"
            left, right = sum(colour(image, 2, 16)), sum(colour(image, 29, 16))
            assert left < 60 and right > 700


def _in(mode: str) -> Image.Image:
    """Return an image, black on the left and white on the right, in any mode."""
    grey = Image.new("L", (64, 64), 0)
    grey.paste(255, (32, 0, 64, 64))
    if mode == "I;16":
        return grey.convert("I").point(lambda value: value * 257).convert(mode)
    if mode == "PA":
        return grey.convert("RGBA").convert("P")
    return grey.convert("RGB").convert(mode)


@pytest.mark.parametrize(("value", "seen"), [(0, 0), (300, 1), (32768, 128), (65535, 255)])
def test_sixteen_bits_are_scaled_and_not_cut_off(studio: Studio, value: int, seen: int) -> None:
    studio.finish(encoded(Image.new("I;16", (64, 64), value), "PNG"))

    assert colour(studio.read(), 0, 0) == (seen, seen, seen)


def test_sixteen_bits_with_a_colour_to_see_through_are_read(studio: Studio) -> None:
    content = encoded(Image.new("I;16", (64, 64), 65535), "PNG", transparency=65535)

    assert studio.finish(content).width == 64


def glass() -> Image.Image:
    """Return an image that can be seen through on the left."""
    image = Image.new("RGBA", (64, 64), (*RED, 0))
    image.paste((*BLUE, 255), (32, 0, 64, 64))
    return image


@pytest.mark.parametrize("output_format", ["png", "webp"])
def test_what_can_be_seen_through_stays_so(studio: Studio, output_format: str) -> None:
    studio.finish(encoded(glass(), "PNG"), output_format=output_format)

    image = studio.read()
    assert image.mode == "RGBA"
    assert colour(image, 2, 2)[3] == 0
    assert is_near(colour(image, 60, 60), (*BLUE, 255))


@pytest.mark.parametrize("quality", [10, 100])
def test_a_jpeg_shows_white_where_it_could_be_seen_through(studio: Studio, quality: int) -> None:
    studio.finish(encoded(glass(), "PNG"), output_format="jpeg", quality=quality)

    assert min(colour(studio.read(), 2, 2)) > 240


@pytest.mark.parametrize("mode", ["RGB", "L", "P"])
def test_a_colour_that_stands_for_nothing_is_seen_through(studio: Studio, mode: str) -> None:
    image = Image.new("L", (64, 64), 0)
    image.paste(255, (32, 0, 64, 64))
    key: dict[str, Any] = {"RGB": (0, 0, 0), "L": 0, "P": 0}
    if mode == "P":
        image = image.convert("P")
    content = encoded(image.convert(mode), "PNG", transparency=key[mode])

    studio.finish(content)

    assert colour(studio.read(), 2, 2)[3] == 0
    assert colour(studio.read(), 60, 60) == (255, 255, 255, 255)


def test_an_alpha_that_hides_nothing_is_left_out(studio: Studio) -> None:
    studio.finish(encoded(halves(mode="RGBA"), "PNG"))

    assert studio.read().mode == "RGB"


@pytest.mark.parametrize("format_name", ["GIF", "WEBP", "PNG"])
def test_of_what_moves_the_first_image_is_taken(studio: Studio, format_name: str) -> None:
    frames = [Image.new("RGB", (64, 64), colour) for colour in (RED, BLUE, BLUE)]
    content = encoded(frames[0], format_name, save_all=True, append_images=frames[1:])

    studio.finish(content)

    assert is_near(colour(studio.read(), 30, 30), RED)
    assert getattr(studio.read(), "n_frames", 1) == 1


@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "WEBP"])
def test_an_image_is_put_upright(
    studio: Studio, format_name: str, subtests: pytest.Subtests
) -> None:
    upright = Image.new("RGB", (80, 40), "white")
    upright.paste(RED, (0, 0, 40, 20))
    upright.paste(BLUE, (40, 20, 80, 40))
    laid = {
        1: upright,
        2: upright.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: upright.transpose(Image.Transpose.ROTATE_180),
        4: upright.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: upright.transpose(Image.Transpose.TRANSPOSE),
        6: upright.transpose(Image.Transpose.ROTATE_90),
        7: upright.transpose(Image.Transpose.TRANSVERSE),
        8: upright.transpose(Image.Transpose.ROTATE_270),
    }

    for orientation, image in laid.items():
        with subtests.test(orientation=orientation):
            exif = Image.Exif()
            exif[normalize.ORIENTATION] = orientation

            studio.finish(encoded(image, format_name, exif=exif), "80x40")

            made = studio.read()
            assert is_near(colour(made, 10, 5), RED)
            assert is_near(colour(made, 70, 35), BLUE)
            assert is_near(colour(made, 10, 35), (255, 255, 255))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")  # Pillow's own, beside what it reads.
@pytest.mark.parametrize("exif", [b"Exif\0\0nonsense", b"Exif\0\0MM\0*\xff\xff\xff\xff", b"x"])
def test_an_exif_that_cannot_be_read_is_no_reason_to_refuse(studio: Studio, exif: bytes) -> None:
    content = encoded(halves(), "JPEG", exif=exif)

    studio.finish(content)

    assert is_near(colour(studio.read(), 5, 5), RED)


def test_a_profile_of_colours_is_taken_into_the_pixels(studio: Studio) -> None:
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, green = (_place_of(profile, name) for name in (b"rXYZ", b"gXYZ"))
    profile[red], profile[green] = profile[green], profile[red]  # Its red is green.

    for mode in ("RGB", "RGBA"):
        plain = Image.new("RGB", (64, 64), (255, 0, 0)).convert(mode)
        studio.finish(encoded(plain, "PNG", icc_profile=bytes(profile)))

        assert is_near(colour(studio.read(), 5, 5), (0, 255, 0))
        assert "icc_profile" not in studio.read().info


def _place_of(profile: bytearray, name: bytes) -> slice:
    start = profile.index(name)
    return slice(start + 4, start + 12)


@pytest.mark.parametrize(
    "profile",
    [
        b"nonsense",
        bytes(200),
        ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes(),
        ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()[:-100],
    ],
    ids=["nonsense", "zeros", "of another space", "truncated"],
)
@pytest.mark.parametrize("mode", ["RGB", "L", "LA", "CMYK"])
def test_a_profile_that_does_not_fit_is_left_out(studio: Studio, mode: str, profile: bytes) -> None:
    format_name = "JPEG" if mode == "CMYK" else "PNG"

    studio.finish(encoded(_in("RGB").convert(mode), format_name, icc_profile=profile))

    image = studio.read()
    assert "icc_profile" not in image.info
    assert sum(colour(image, 2, 16)) < 60 < 700 < sum(colour(image, 60, 16))


# ---- Nothing but pixels --------------------------------------------------------------------------

SECRET = "Somebody's name"


def told_much(format_name: str) -> bytes:
    """Return an image with metadata of every kind that its format has."""
    exif = Image.Exif()
    exif[0x010E] = exif[0x013B] = SECRET
    exif.get_ifd(0x8825)[1] = "N"
    options: dict[str, Any] = {"exif": exif}
    if format_name == "PNG":
        text = PngImagePlugin.PngInfo()
        text.add_text("Author", SECRET)
        text.add_text("Zipped", SECRET, zip=True)
        text.add_itxt("XML:com.adobe.xmp", f"<x>{SECRET}</x>")
        text.add(b"caBX", SECRET.encode())
        text.add(b"tIME", bytes(7))
        options |= {"pnginfo": text, "dpi": (300, 300)}
    if format_name in ("JPEG", "WEBP"):
        options |= {"xmp": SECRET.encode()}
    if format_name == "JPEG":
        # The last is where C2PA is, APP11.
        options |= {
            "comment": SECRET,
            "dpi": (300, 300),
            "extra": b"\xff\xeb" + struct.pack(">H", 2 + len(SECRET)) + SECRET.encode(),
        }
    if format_name == "GIF":
        options = {"comment": SECRET}
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return encoded(halves(), format_name, icc_profile=profile, **options)


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


# ---- What is refused -----------------------------------------------------------------------------


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


# ---- Its turn ------------------------------------------------------------------------------------


def test_two_are_in_work_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: set[int] = set()
    working, most = [0], [0]
    finish = normalize._normalize

    def watched(*arguments: Any) -> Any:
        threads.add(threading.get_ident())
        working[0] += 1
        most[0] = max(most[0], working[0])
        try:
            return finish(*arguments)
        finally:
            working[0] -= 1

    monkeypatch.setattr(normalize, "_normalize", watched)
    content = encoded(Image.effect_noise((512, 512), 80).convert("RGB"), "PNG")
    studios = [Studio(tmp_path / str(number)) for number in range(6)]
    for studio in studios:
        studio.source.parent.mkdir()

    jobs = [gevent.spawn(studio.finish, content, "256x256") for studio in studios]
    gevent.joinall(jobs, raise_error=True)

    assert most == [2]
    assert threading.get_ident() not in threads
    assert len({studio.target.read_bytes() for studio in studios}) == 1
