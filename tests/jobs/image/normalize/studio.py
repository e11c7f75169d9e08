"""Images of two colours and of other kinds, made ours and looked at."""

import io
import struct
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageCms, PngImagePlugin

from jobs.image.normalize import normalize_image
from models.errors import ProviderFailed
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


def glass() -> Image.Image:
    """Return an image that can be seen through on the left."""
    image = Image.new("RGBA", (64, 64), (*RED, 0))
    image.paste((*BLUE, 255), (32, 0, 64, 64))
    return image


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
