"""What a request would cost, before it is sent."""

from typing import Any

import orjson
from flask import Blueprint, Response

from api import guards
from billing import ledger
from billing.pricing import Terms
from jobs import terms
from models import errors
from models.chat import ChatRequest
from models.image import ImageRequest

bp = Blueprint("estimate", __name__)


@bp.post("/estimate")
def create_estimate() -> Response:
    """Answer the least and the most credits that a chat or image request can cost."""
    guards.look()
    its_terms = _terms(guards.parse(guards.read_body()))
    available = ledger.standing(guards.caller().account_id).available
    content = {
        "object": "estimate",
        "min_credits": its_terms.fewest,
        "max_credits": its_terms.most,
        "available": available,
        "affordable": its_terms.least <= available,
    }
    return Response(orjson.dumps(content), content_type="application/json")


def _terms(body: Any) -> Terms:
    if not isinstance(body, dict):
        raise errors.InvalidRequest("The body must be that of a chat or image request.")
    if "messages" in body:
        return terms.of_chat(ChatRequest.read(body))
    if "prompt" in body:
        return terms.of_images(ImageRequest.read(body))
    raise errors.MissingParameter(
        "Missing required parameter: 'messages', as in a chat request, or 'prompt', as in an "
        "image request.",
        param="messages",
    )
