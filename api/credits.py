"""What the caller's account has."""

import orjson
from flask import Blueprint, Response

from api.request import admission
from billing import ledger

bp = Blueprint("credits", __name__)


@bp.get("/credits")
def get_credits() -> Response:
    """Answer the balance, what running calls hold of it, and what is left to spend."""
    standing = ledger.standing(admission.caller().account_id)
    content = {
        "object": "credits",
        "balance": standing.balance,
        "held": standing.held,
        "available": standing.available,
        "plan": admission.caller().plan,
    }
    return Response(orjson.dumps(content), content_type="application/json")
