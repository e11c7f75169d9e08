"""Normalize images: decode, scale and encode them, with Pillow in two real threads."""

import io
import time
import traceback
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

from gevent.threadpool import ThreadPool
from PIL import Image, ImageCms
from PIL.JpegImagePlugin import JpegImageFile

from models.errors import LikeDoError, ProviderFailed, Unavailable
from models.image import Size
from storage.media import NormalizedImage

#: The formats that are read, by Pillow's names. Each one exposes its decoder to foreign input.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
#: A larger image is refused before it is decoded. Decoded, a pixel takes 4 bytes.
MAX_PIXELS = 4096 * 4096
#: Nothing can interrupt a decoder, which works in C, so its work is bounded beforehand. Each scan
#: of a progressive JPEG goes through the whole image and may take 30 bytes of the file, so that
#: some hundred kilobytes are minutes of work. Encoders write about ten.
MAX_SCANS = 100
#: The marker that begins a scan. It cannot occur within the data of one.
START_OF_SCAN = b"\xff\xda"
#: What Pillow does in Python between these reads is small, but a file may consist of millions of
#: empty segments. The largest PNG has some ten thousand.
MAX_READS = 300_000
#: CPU seconds that reading an image may take; the largest takes two.
MAX_SECONDS = 20.0
#: Images that one process normalizes at a time; each takes two or three times its decoded size.
MAX_CONCURRENT = 2

#: Bytes that are searched for scans at a time.
READ_BYTES = 1024 * 1024

#: Media types and Pillow's names, by a request's `output_format`.
OUTPUTS = {
    "png": ("image/png", "PNG"),
    "jpeg": ("image/jpeg", "JPEG"),
    "webp": ("image/webp", "WEBP"),
}
#: zlib's. At 2048x2048, 4 takes twice the time and saves an eighth; 6 takes more and saves nothing.
PNG_LEVEL = 2
#: Of a JPEG or WebP. Above this, files grow without a visible difference.
MAX_QUALITY = 95
#: Pillow takes a JPEG's 0 for its own default.
MIN_QUALITY = 1
#: From this quality on, a JPEG keeps the colour of every pixel instead of every four.
FULL_COLOUR_QUALITY = 90
#: Shrinking begins by averaging down to this many times the target size, which is fast.
REDUCING_GAP = 3.0
#: A colour profile takes some kilobytes.
MAX_PROFILE_BYTES = 4 * 1024 * 1024

#: EXIF's tag for the orientation, and for each value how the image is turned upright.
ORIENTATION = 0x0112
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def normalize_image(
    source: Path, target: Path, size: Size, output_format: str, quality: int
) -> NormalizedImage:
    """Write the image in the file `source` to `target`, exactly of this size, without metadata.

    `output_format` is `png`, `jpeg` or `webp`, `quality` 0 to 100. An image of another aspect ratio
    is cropped at both ends of its longer side. Waits for a real thread while other greenlets go
    on. Raises `ProviderFailed` if `source` is no image, incomplete or too large, and `Unavailable`
    if `target` cannot be written.
    """
    outcome = _threads().apply(_outcome, (source, target, size, output_format, quality))
    if isinstance(outcome, LikeDoError):
        raise outcome
    assert isinstance(outcome, NormalizedImage)
    return outcome


@cache
def _threads() -> ThreadPool:
    return ThreadPool(MAX_CONCURRENT)


def _outcome(*arguments: Any) -> NormalizedImage | LikeDoError:
    """Return an error instead of raising it: gevent prints what is raised in a thread."""
    try:
        return _normalize(*arguments)
    except LikeDoError as error:
        return error


def _normalize(
    source: Path, target: Path, size: Size, output_format: str, quality: int
) -> NormalizedImage:
    media_type, pillow_format = OUTPUTS[output_format]
    with _BoundedFile(source.open("rb", buffering=0)) as file:
        # One name for all of them, so that each image is freed once the next is made from it.
        image = _decoded(file)
        image = _sized(image, size)
        if pillow_format == "JPEG":
            image = _on_white(image)
        image.info.clear()  # Pillow would write some of this metadata.
        _write(image, target, pillow_format, _options(pillow_format, quality))
    return NormalizedImage(media_type, target.stat().st_size, size.width, size.height)


# ---- Reading -------------------------------------------------------------------------------------


class _BoundedFile(io.BufferedReader):
    """A file that ends its reader, which is Pillow, once that takes too long."""

    def __init__(self, raw: io.RawIOBase) -> None:
        super().__init__(raw)
        self._reads = 0
        # Of this thread: its image does not wait for others.
        self._ends_at = time.thread_time() + MAX_SECONDS

    def read(self, size: int | None = -1, /) -> bytes:
        self._reads += 1
        if self._reads > MAX_READS or time.thread_time() > self._ends_at:
            raise ProviderFailed("The provider's image takes too long to be read.")
        return super().read(size)


def _decoded(file: BinaryIO) -> Image.Image:
    """Return the first image in `file`, upright, in RGB or, if it is transparent, in RGBA."""
    try:
        _check(file)
        return _in_rgb(_upright(_load(file)))
    except ProviderFailed:
        raise
    except Exception as error:  # Pillow raises about anything for crafted bytes.
        # The frames hold the image, and the error may live for long.
        traceback.clear_frames(error.__traceback__)
        raise ProviderFailed("The provider's image cannot be read.") from error


def _check(file: BinaryIO) -> None:
    """Raise if it has too many pixels or scans, or a PNG's checksums are wrong."""
    image = Image.open(file, formats=FORMATS)
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ProviderFailed(f"The provider's image of {width}x{height} is too large to be read.")
    if isinstance(image, JpegImageFile) and _scans(file) > MAX_SCANS:
        raise ProviderFailed("The provider's image has too many scans to be read.")
    image.verify()


def _scans(file: BinaryIO) -> int:
    """Return how many scans a JPEG has at most; those of a thumbnail in it count, too."""
    file.seek(0)
    count, end = 0, b""
    while piece := file.read(READ_BYTES):
        count += (end + piece).count(START_OF_SCAN)
        end = piece[-1:]  # Half of a marker, perhaps.
    return count


def _load(file: BinaryIO) -> Image.Image:
    file.seek(0)
    image = Image.open(file, formats=FORMATS)
    image.load()
    return image


def _upright(image: Image.Image) -> Image.Image:
    """Return the image, turned upright if it has readable EXIF data."""
    try:
        turn = UPRIGHT.get(image.getexif().get(ORIENTATION, 1))
    except Exception:  # EXIF is optional: the pixels count.
        turn = None
    return image if turn is None else image.transpose(turn)


def _in_rgb(image: Image.Image) -> Image.Image:
    image = _in_eight_bits(image)
    if image.has_transparency_data:
        return _if_opaque_in_rgb(_in_srgb(image.convert("RGBA")))
    if image.mode not in ("L", "RGB", "CMYK"):
        image = image.convert("RGB")
    return _in_srgb(image).convert("RGB")


def _in_eight_bits(image: Image.Image) -> Image.Image:
    if not image.mode.startswith("I"):
        return image
    # Pillow would clip 16 bits at 255 instead of scaling them.
    image.info.pop("transparency", None)
    return image.convert("I").point(lambda value: value * (1 / 256)).convert("L")


def _if_opaque_in_rgb(image: Image.Image) -> Image.Image:
    min_alpha, _ = image.getchannel("A").getextrema()
    return image.convert("RGB") if min_alpha == 255 else image


def _in_srgb(image: Image.Image) -> Image.Image:
    """Return the image converted from its colour profile to sRGB, which viewers assume."""
    profile = image.info.get("icc_profile")
    if not profile or len(profile) > MAX_PROFILE_BYTES:
        return image
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        mode = "RGBA" if image.mode == "RGBA" else "RGB"
        srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
        converted = ImageCms.profileToProfile(image, source, srgb, outputMode=mode)
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
        return image  # The profile is broken, or for another kind of image.
    return converted or image


# ---- Scaling and writing -------------------------------------------------------------------------


def _sized(image: Image.Image, size: Size) -> Image.Image:
    target = (size.width, size.height)
    if image.size == target:
        return image
    box = _crop_box(*image.size, size)
    return image.resize(target, Image.Resampling.LANCZOS, box, REDUCING_GAP)


def _crop_box(width: int, height: int, size: Size) -> tuple[float, float, float, float]:
    """Return the edges of the largest centred part with the aspect ratio of `size`."""
    scale = min(width / size.width, height / size.height)
    left = max(0.0, (width - size.width * scale) / 2)
    top = max(0.0, (height - size.height * scale) / 2)
    return left, top, width - left, height - top


def _on_white(image: Image.Image) -> Image.Image:
    """Return the image without transparency, which a JPEG cannot have."""
    if image.mode == "RGB":
        return image
    background = Image.new("RGB", image.size, "white")
    background.paste(image, mask=image.getchannel("A"))
    return background


def _options(pillow_format: str, quality: int) -> dict[str, Any]:
    clamped = max(MIN_QUALITY, min(quality, MAX_QUALITY))
    match pillow_format:
        case "PNG":
            return {"compress_level": PNG_LEVEL}
        case "JPEG":
            full = quality >= FULL_COLOUR_QUALITY
            return {"quality": clamped, "subsampling": "4:4:4" if full else "4:2:0"}
        case _:
            return {"quality": clamped}


def _write(image: Image.Image, target: Path, pillow_format: str, options: dict[str, Any]) -> None:
    try:
        image.save(target, pillow_format, **options)
    except OSError as error:
        raise Unavailable("The image cannot be written just now. Try again.") from error
