"""The credits of the caller's account."""

import orjson
from flask import Blueprint, Response

from api.request import admission
from billing import ledger

bp = Blueprint("credits", __name__)


@bp.get("/credits")
def get_credits() -> Response:
    """Return the balance, the credits held for running jobs, and those left to spend."""
    standing = ledger.standing(admission.caller().account_id)
    content = {
        "object": "credits",
        "balance": standing.balance,
        "held": standing.held,
        "available": standing.available,
        "plan": admission.caller().plan,
    }
    return Response(orjson.dumps(content), content_type="application/json")
