"""The kinds of image jobs: the quote of a request, and the columns of its job's row."""

from dataclasses import replace
from typing import Any

from billing.pricing import ImageQuote
from config.catalog.load import catalog
from config.settings import settings
from jobs.kinds.image_answer import render
from jobs.kinds.kind import Kind
from models.image import ImageRequest
from routing import image_candidates

#: Bulk image jobs take hours, so one account has at most this many queued or running.
MAX_BULK_JOBS = 2
#: Bulk images may take a day, since no connection waits for them.
BULK_TIMEOUT_SECONDS = 24 * 3600.0
#: Their next worker resumes where a dead one stopped, and in a day many workers may die.
MAX_BULK_ATTEMPTS = 100


def read(body: Any, asynchronous: bool) -> ImageRequest:
    """Return the request in a body; raise `InvalidRequest` if a bulk request is synchronous."""
    image = ImageRequest.read(body)
    image.check_size(asynchronous)
    return image


def quote(image: ImageRequest) -> ImageQuote:
    """Return what the images may cost; the first price is that of the requested model."""
    routes = image_candidates.find(image)
    price = image_candidates.get_one(image.model).price.each(image.quality)
    prices = tuple(dict.fromkeys([price, *(candidate.credits for candidate in routes)]))
    return ImageQuote(prices, image.total)


def _cheapest() -> int:
    prices = [image.price for image in catalog.images.values()]
    return min((min(price.standard, price.hd) for price in prices), default=1)


def _columns(image: ImageRequest) -> dict[str, Any]:
    return {
        "model": image.model,
        "total": image.total,
        "cancel_on_disconnect": image.cancels_on_disconnect,
    }


IMAGE = Kind(
    name="image",
    read=read,
    identified_by="prompt",
    from_validated=ImageRequest.from_validated,
    find=image_candidates.find,
    quote=quote,
    columns=_columns,
    module="image",
    concurrency=lambda: settings.image_concurrency,
    batch_endpoint="/v1/images/generations",
    cheapest=_cheapest,
    render=render,
    makes_images=True,
)

#: The API calls it a batch.
BULK_IMAGE = replace(
    IMAGE,
    name="batch",
    batch_endpoint=None,
    # They run among the images, which keep half of the slots for themselves.
    concurrency=lambda: max(1, settings.image_concurrency // 2),
    max_running=lambda plan: min(MAX_BULK_JOBS, plan.max_running),
    timeout_seconds=BULK_TIMEOUT_SECONDS,
    max_attempts=MAX_BULK_ATTEMPTS,
)
