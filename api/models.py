"""The catalogue, in OpenAI's shape."""

import orjson
from flask import Blueprint, Response

from routing import model_view

bp = Blueprint("models", __name__)


@bp.get("/models")
def list_models() -> Response:
    """List every model that a caller can name."""
    return _json({"object": "list", "data": model_view.listing()})


@bp.get("/models/<path:model_id>")
def get_model(model_id: str) -> Response:
    """Describe one model."""
    return _json(model_view.get_one(model_id))


def _json(content: object) -> Response:
    return Response(orjson.dumps(content), content_type="application/json")
