"""Routes to have images drawn by."""

from typing import Any

from config.catalog.model import ImageRoute, ImageUpstream
from providers.image import Wanted


def image_route(provider: str, model: str, images_per_call: int = 4) -> ImageRoute:
    upstream = ImageUpstream(
        provider=provider,
        id=model,
        sizes={"1024x1024": {}},
        qualities={"standard": {}},
        images_per_call=images_per_call,
    )
    return ImageRoute(upstream=upstream)


def wanted(count: int = 1, prompt: str = "A quiet harbour", **sent: Any) -> Wanted:
    return Wanted(prompt, count, sent)
