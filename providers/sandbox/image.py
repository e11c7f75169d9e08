"""The sandbox's images: drawn here, and labelled so that nobody takes them for a model's.

Pillow is imported only when drawing, because the web process imports this provider, too.
"""

import hashlib
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from models.image import DEFAULT_SIZE, Size
from net.call import Call
from providers.image import DrawRequest, DrawResult, ImageProvider, Picture
from providers.wire import files

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFont import FreeTypeFont, ImageFont

    Font = FreeTypeFont | ImageFont

LABEL = "sandbox"
LABEL_COLOUR, TEXT_COLOUR = (255, 255, 255), (225, 225, 225)
#: The range of each colour channel of a background: dark enough to read the text on it.
DARKEST, BRIGHTEST = 30, 120
#: No image has room for more.
MAX_PROMPT_CHARACTERS = 1000


class SandboxImages(ImageProvider):
    name = "sandbox"

    def draw(
        self, request: DrawRequest, key: str, call: Call, on_started: Callable[[str], None]
    ) -> DrawResult:
        size = Size.read(request.parameters.get("size", DEFAULT_SIZE))
        pictures: list[Picture] = []
        for number in range(1, request.count + 1):
            call.check()
            image = paint(request.prompt, size, f"{number} of {request.count}")
            pictures.append(Picture(_saved(image, request.folder)))
        return DrawResult([*pictures])


def _saved(image: "Image", folder: Path) -> Path:
    png = io.BytesIO()
    image.save(png, format="PNG")
    with files.new_file(folder) as file:
        file.write(png.getvalue())
    return file.path


def paint(prompt: str, size: Size, number: str) -> "Image":
    """Return an image with a label, its `number` among the images, and the prompt.

    The same arguments always make the same image.
    """
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("RGB", (size.width, size.height), background(prompt))
    draw = ImageDraw.Draw(image)
    margin = max(1, min(size.width, size.height) // 16)
    large = ImageFont.load_default(max(8, min(size.width // 5, size.height // 4)))
    small = ImageFont.load_default(max(8, min(size.width // 20, size.height // 12)))

    draw.text((margin, margin), LABEL, LABEL_COLOUR, large, anchor="la")
    top = margin + _height(large) + margin // 2
    draw.text((margin, top), number, LABEL_COLOUR, small, anchor="la")
    for line in lines(prompt, small, size.width - 2 * margin):
        top += _height(small)
        if top + _height(small) > size.height - margin:
            break
        draw.text((margin, top), line, TEXT_COLOUR, small, anchor="la")
    return image


def background(prompt: str) -> tuple[int, int, int]:
    """Return a dark colour (red, green, blue) that depends on the prompt."""
    red, green, blue = hashlib.sha256(prompt.encode()).digest()[:3]
    scale = BRIGHTEST - DARKEST
    return (DARKEST + red % scale, DARKEST + green % scale, DARKEST + blue % scale)


def lines(text: str, font: "Font", width: int) -> Iterator[str]:
    """Yield `text` in lines of up to `width` pixels; longer words are cut."""
    line = ""
    for word in text[:MAX_PROMPT_CHARACTERS].split():
        longer = f"{line} {word}".strip()
        if font.getlength(longer) <= width:
            line = longer
            continue
        if line:
            yield line
        *whole, line = _cut(word, font, width)
        yield from whole
    yield line


def _cut(word: str, font: "Font", width: int) -> list[str]:
    parts = [""]
    for character in word:
        if parts[-1] and font.getlength(parts[-1] + character) > width:
            parts.append("")
        parts[-1] += character
    return parts


def _height(font: "Font") -> int:
    """Return the height of a line in pixels."""
    top, bottom = font.getbbox("Ag")[1::2]
    return round(1.3 * (bottom - top))
