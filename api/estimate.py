"""What a request would cost, before it is sent."""

from typing import Any

import orjson
from flask import Blueprint, Response

from api import chat, guards, image
from billing import ledger
from billing.pricing import Terms
from models import errors
from models.chat import ChatRequest
from models.image import ImageRequest

bp = Blueprint("estimate", __name__)


@bp.post("/estimate")
def create_estimate() -> Response:
    """Answer the least and the most credits that a chat or image request can cost."""
    guards.look()
    terms = _terms(guards.parse(guards.read_body()))
    available = ledger.standing(guards.caller().account_id).available
    content = {
        "object": "estimate",
        "min_credits": terms.fewest,
        "max_credits": terms.most,
        "available": available,
        "affordable": terms.least <= available,
    }
    return Response(orjson.dumps(content), content_type="application/json")


def _terms(body: Any) -> Terms:
    if isinstance(body, dict) and "messages" in body:
        return chat.terms_of(ChatRequest.read(body))
    if isinstance(body, dict) and "prompt" in body:
        return image.terms_of(ImageRequest.read(body))
    raise errors.InvalidRequest(
        "The body must be that of a chat request, with 'messages', or of an image request, with "
        "'prompt'."
    )
