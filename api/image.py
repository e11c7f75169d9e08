"""Images."""

from flask import Blueprint, Response

from api import accept, answers, guards, pictures, retries
from billing.pricing import EachPrice, ImageTerms
from models.image import ImageRequest
from routing import image_routes

bp = Blueprint("image", __name__)


@bp.post("/images/generations")
def create_images() -> Response:
    """Answer with images, as links or in base64; or with the job that makes them."""
    body = guards.read_body()
    if (again := retries.answered(body)) is not None:
        return again
    with guards.admission:
        guards.count()
        image = ImageRequest.read(guards.parse(body))
        asynchronous = accept.is_asynchronous(image.body)
        image.check_size(asynchronous)
        terms = terms_of(image)
        accepted = accept.accept(
            "batch" if image.is_batch else "image",
            body,
            terms,
            EachPrice(terms.prices[0]),
            asynchronous,
            model=image.model,
            total=image.total,
            stream=False,
            include_usage=False,
            cancel_on_disconnect=image.cancels_on_disconnect and not asynchronous,
            webhook_url=image.body.get("webhook_url"),
        )
    if isinstance(accepted, Response):
        return accepted
    if accepted.waiter is None:
        return accepted.job()
    return answers.wait(accepted.waiter, image.cancels_on_disconnect, pictures.renderer())


def terms_of(image: ImageRequest) -> ImageTerms:
    """Return what the images may cost over every route and fallback that they may take."""
    ways = image_routes.find(image)
    price = image_routes.get_one(image.model).price.each(image.quality)
    return ImageTerms(tuple(dict.fromkeys([price, *(way.credits for way in ways)])), image.total)
