"""Images."""

from typing import Any

from flask import Blueprint, Response

from api import submit
from api.response import answer, images
from api.response.listening import Wait
from models.image import ImageRequest

bp = Blueprint("image", __name__)


@bp.post("/images/generations")
def create_images() -> Response:
    """Create images: links or base64 in JSON, or 202 with a job."""
    return submit.create(_read, _answer)


def _read(body: Any) -> ImageRequest:
    image = ImageRequest.read(body)
    image.check_size(submit.is_asynchronous(image.body))
    return image


def _answer(image: ImageRequest, wait: Wait) -> Response:
    render = images.renderer(image.kind)
    return answer.answer_when_done(wait, image.cancels_on_disconnect, render)
