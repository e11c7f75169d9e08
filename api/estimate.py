"""The price of a request, before it is sent."""

from typing import Any

import orjson
from flask import Blueprint, Response

from api.request import admission, body
from billing import ledger
from billing.pricing import Quote
from jobs.kinds import KINDS
from models.errors import InvalidRequest, MissingParameter

bp = Blueprint("estimate", __name__)


@bp.post("/estimate")
def create_estimate() -> Response:
    """Return the minimum and maximum credits that a chat or image request can cost."""
    admission.hit_estimates()
    quote = _quote(admission.parse(body.read(admission.caller().account_id)))
    available = ledger.standing(admission.caller().account_id).available
    content = {
        "object": "estimate",
        "min_credits": quote.min_charge,
        "max_credits": quote.max_credits,
        "available": available,
        "affordable": quote.min_to_start <= available,
    }
    return Response(orjson.dumps(content), content_type="application/json")


def _quote(content: Any) -> Quote:
    if not isinstance(content, dict):
        raise InvalidRequest("The body must be that of a chat or image request.")
    for kind in KINDS.values():
        if kind.identified_by in content:
            # What is too much to wait for has a price, too: it can be an asynchronous job.
            return kind.quote(kind.read(content, True))
    raise MissingParameter(
        "Missing required parameter: 'messages', as in a chat request, or 'prompt', as in an "
        "image request.",
        param="messages",
    )
