"""Images, and hundreds of images at a time: what they may cost, and what their jobs are."""

from typing import Any

from billing.pricing import ImageQuote
from jobs.kinds.image_answer import rendered
from jobs.kinds.kind import Kind
from models.image import ImageRequest
from routing import image_candidates

#: Nobody waits for bulk images: together they may take a day.
BULK_SECONDS = 24 * 3600.0
#: They go on where a worker that died left off, and may see many workers in a day.
MAX_BULK_ATTEMPTS = 100


def quote(image: ImageRequest) -> ImageQuote:
    """Return what the images may cost. The first price is that of the model that was asked for."""
    found = image_candidates.find(image)
    price = image_candidates.get_one(image.model).price.each(image.quality)
    prices = tuple(dict.fromkeys([price, *(candidate.credits for candidate in found)]))
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
    render=rendered,
    makes_images=True,
)

#: The API calls it a batch.
BULK_IMAGE = Kind(
    name="batch",
    checked=ImageRequest.checked,
    quote=quote,
    columns=_columns,
    module="image",
    render=rendered,
    makes_images=True,
    seconds=BULK_SECONDS,
    max_attempts=MAX_BULK_ATTEMPTS,
)
