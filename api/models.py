"""The catalogue, in OpenAI's shape."""

import orjson
from flask import Blueprint, Response

from api.request import admission
from routing import model_view

bp = Blueprint("models", __name__)


@bp.get("/models")
def list_models() -> Response:
    """List every model that the caller's key can name."""
    allows = admission.caller().rules.allows
    models = [model for model in model_view.listing() if allows(model["id"])]
    return _json({"object": "list", "data": models})


@bp.get("/models/<path:model_id>")
def get_model(model_id: str) -> Response:
    """Describe one model."""
    admission.caller().rules.check_model(model_id)
    return _json(model_view.get_one(model_id))


def _json(content: object) -> Response:
    return Response(orjson.dumps(content), content_type="application/json")
