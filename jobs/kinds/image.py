"""Images, a few or hundreds at a time: what they may cost, and what their rows say of them."""

from typing import Any

from billing.pricing import ImageQuote
from jobs.kinds.image_answer import render
from jobs.kinds.kind import Kind
from models.image import ImageRequest
from routing import image_candidates

#: No connection waits for bulk images: together they may take a day.
BULK_TIMEOUT_SECONDS = 24 * 3600.0
#: Their next worker resumes where a dead one stopped, and in a day many workers may die.
MAX_BULK_ATTEMPTS = 100


def quote(image: ImageRequest) -> ImageQuote:
    """Return what the images may cost; the first price is that of the requested model."""
    routes = image_candidates.find(image)
    price = image_candidates.get_one(image.model).price.each(image.quality)
    prices = tuple(dict.fromkeys([price, *(candidate.credits for candidate in routes)]))
    return ImageQuote(prices, image.total)


def _columns(image: ImageRequest) -> dict[str, Any]:
    return {
        "model": image.model,
        "total": image.total,
        "cancel_on_disconnect": image.cancels_on_disconnect,
    }


IMAGE = Kind(
    name="image",
    checked=ImageRequest.checked,
    quote=quote,
    columns=_columns,
    module="image",
    render=render,
    makes_images=True,
)

#: The API calls it a batch.
BULK_IMAGE = Kind(
    name="batch",
    checked=ImageRequest.checked,
    quote=quote,
    columns=_columns,
    module="image",
    render=render,
    makes_images=True,
    timeout_seconds=BULK_TIMEOUT_SECONDS,
    max_attempts=MAX_BULK_ATTEMPTS,
)
