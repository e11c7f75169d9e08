"""The price of a request, before it is sent."""

from typing import Any

import orjson
from flask import Blueprint, Response

from access.keys import Caller
from api.request import admission, body
from billing import key_spending, ledger
from billing.pricing import Quote
from jobs.kinds import KINDS
from models.errors import InvalidRequest, MissingParameter

bp = Blueprint("estimate", __name__)


@bp.post("/estimate")
def create_estimate() -> Response:
    """Return the minimum and maximum credits that a chat or image request can cost."""
    admission.hit_estimates()
    quote = _quote(admission.parse(body.read(admission.caller().account_id)))
    available = _available(admission.caller())
    content = {
        "object": "estimate",
        "min_credits": quote.min_charge,
        "max_credits": quote.max_credits,
        "available": available,
        "affordable": quote.min_to_start <= available,
    }
    return Response(orjson.dumps(content), content_type="application/json")


def _available(caller: Caller) -> int:
    """Return the credits that the caller can spend: the account's, within the key's limits."""
    available = ledger.standing(caller.account_id).available
    left = key_spending.left(caller.key_id)
    return available if left is None else max(0, min(available, left))


def _quote(content: Any) -> Quote:
    if not isinstance(content, dict):
        raise InvalidRequest("The body must be that of a chat or image request.")
    for kind in KINDS.values():
        if kind.identified_by in content:
            # What is too much to wait for has a price, too: it can be an asynchronous job.
            request = kind.read(content, True)
            admission.caller().rules.check_request(request)
            return kind.quote(request)
    raise MissingParameter(
        "Missing required parameter: 'messages', as in a chat request, or 'prompt', as in an "
        "image request.",
        param="messages",
    )
