"""Images."""

from flask import Blueprint, Response

from api.request import admission, submit
from api.response import answer, images, replay
from billing.holds import ExistingJob
from billing.pricing import EachPrice
from jobs.lifecycle import quote
from models.image import ImageRequest

bp = Blueprint("image", __name__)


@bp.post("/images/generations")
def create_images() -> Response:
    """Answer with images, as links or in base64; or with the job that makes them."""
    body = admission.read_body()
    if (again := replay.answer_retry(body)) is not None:
        return again
    with admission.admission_slots:
        admission.hit()
        image = ImageRequest.read(admission.parse(body))
        asynchronous = submit.is_asynchronous(image.body)
        image.check_size(asynchronous)
        its_terms = quote.images(image)
        accepted = submit.submit(
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
    if isinstance(accepted, ExistingJob):
        return replay.answer_existing(accepted.job_id, body)
    if accepted.waiter is None:
        return accepted.job()
    return answer.answer_when_done(accepted.waiter, image.cancels_on_disconnect, images.renderer())
