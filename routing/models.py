"""The models as callers are shown them: what the catalogue says, as it holds here and today."""

import datetime
from collections.abc import Sequence
from typing import Any, TypeVar

import providers
from config import catalog
from config.catalog import ImageModel, ImageRoute, Model, Route
from models import errors
from models.chat import ChatRequest
from routing import image_routes, routes

R = TypeVar("R", Route, ImageRoute)

_FUNCTION = {"type": "function", "function": {"name": "look"}}
_SCHEMA = {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object"}}}


def _saying(part: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [part]}]}


#: For each word of `TAKES`, a request that asks for it.
ASKING: dict[str, dict[str, Any]] = {
    "sampling": {"temperature": 0.2, "top_p": 0.5, "presence_penalty": 1, "frequency_penalty": 1},
    "logprobs": {"logprobs": True},
    "stop": {"stop": "END"},
    "seed": {"seed": 1},
    "n": {"n": 2},
    "tools": {"tools": [_FUNCTION]},
    "json_object": {"response_format": {"type": "json_object"}},
    "json_schema": {"response_format": _SCHEMA},
    "images": _saying({"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}),
    "audio": _saying({"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}),
    "files": _saying({"type": "file", "file": {"file_data": ""}}),
    "reasoning_effort": {"reasoning_effort": "low"},
}


def listing() -> list[dict[str, Any]]:
    """Return the models that callers can name as `GET /models` shows them, chats first."""
    chats = [as_json(model) for model in routes.listed()]
    return chats + [image_as_json(model) for model in image_routes.listed()]


def get_one(model_id: str) -> dict[str, Any]:
    """Return one model as `GET /models/{id}` shows it; raise `ModelNotFound`."""
    if model_id in catalog.catalog.images:
        return image_as_json(image_routes.get_one(model_id))
    return as_json(routes.get_one(model_id))


def as_json(model: Model) -> dict[str, Any]:
    """Return `model` as `GET /models` shows it. Limits and the like are its first route's."""
    route = first_route(model.routes)
    # What an unlisted model takes is OpenRouter's to know.
    known = model.id in catalog.catalog.models
    return catalog.as_json(
        model, routes.providers_of(model), route, takes(route) if known else None
    )


def image_as_json(model: ImageModel) -> dict[str, Any]:
    """Return a model that makes images as `GET /models` shows it: what its first route takes."""
    return catalog.image_as_json(model, routes.providers_of(model), first_route(model.routes))


def first_route(routes_of_model: Sequence[R]) -> R:
    """Return the route that would answer: its model lives today, and its provider has a key.

    Where there is none, the one that would if it could.
    """
    today = datetime.datetime.now(datetime.UTC).date()
    living = [route for route in routes_of_model if not route.upstream.is_retired(today)]
    found = living or list(routes_of_model)
    return next((route for route in found if routes.is_on(route.provider)), found[0])


def takes(route: Route) -> list[str]:
    """Return the words of what `route` takes: those that its provider does not refuse."""
    return [word for word, wish in ASKING.items() if _honours(route, wish)]


def _honours(route: Route, wish: dict[str, Any]) -> bool:
    said = {"model": route.upstream.id, "messages": [{"role": "user", "content": "Hello"}]}
    try:
        providers.get_one(route.provider).check(ChatRequest(said | wish), route)
    except errors.UnsupportedParameter:
        return False
    return True
