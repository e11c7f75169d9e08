"""Images."""

from flask import Blueprint, Response

from api import accept, answers, guards, pictures, retries
from billing.ledger import There
from billing.pricing import EachPrice
from jobs import terms
from models.image import ImageRequest

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
        its_terms = terms.of_images(image)
        accepted = accept.accept(
            "batch" if image.is_batch else "image",
            body,
            its_terms,
            EachPrice(its_terms.prices[0]),
            asynchronous,
            model=image.model,
            total=image.total,
            stream=False,
            include_usage=False,
            cancel_on_disconnect=image.cancels_on_disconnect and not asynchronous,
            webhook_url=image.body.get("webhook_url"),
        )
    # What waits for others' jobs must not keep others from being admitted.
    if isinstance(accepted, There):
        return retries.there(accepted.job_id, body)
    if accepted.waiter is None:
        return accepted.job()
    return answers.wait(accepted.waiter, image.cancels_on_disconnect, pictures.renderer())
