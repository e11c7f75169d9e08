"""Images."""

from flask import Blueprint, Response

from api import accept, answers, guards, pictures
from billing.pricing import EachPrice, ImageTerms
from models.image import ImageRequest
from routing import image_routes

bp = Blueprint("image", __name__)


@bp.post("/images/generations")
def create_images() -> Response:
    """Answer with images, as links or in base64."""
    body = guards.read_body()
    with guards.admission:
        guards.count()
        image = ImageRequest.read(guards.parse(body))
        accept.refuse_what_is_not_yet(image.body)
        ways = image_routes.find(image)
        price = image_routes.get_one(image.model).price.each(image.quality)
        prices = tuple(dict.fromkeys([price, *(way.credits for way in ways)]))
        waiter, _ = accept.accept(
            "image",
            body,
            ImageTerms(prices, image.count),
            EachPrice(price),
            model=image.model,
            total=image.count,
            stream=False,
            include_usage=False,
            cancel_on_disconnect=image.cancels_on_disconnect,
        )
    return answers.wait(waiter, image.cancels_on_disconnect, pictures.renderer())
