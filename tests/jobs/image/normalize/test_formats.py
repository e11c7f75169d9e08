"""Each format, mode and size becomes what was asked for."""

from typing import Any

import pytest
from PIL import Image, ImageCms

from jobs.image import normalize
from models.image import Size
from storage.media import NormalizedImage
from tests.jobs.image.normalize.studio import (
    BLUE,
    MEDIA_TYPES,
    RED,
    Studio,
    colour,
    encoded,
    glass,
    halves,
    is_near,
)


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
