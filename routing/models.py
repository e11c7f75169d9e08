"""The models as callers are shown them: what the catalogue says, as it holds here and today."""

import datetime
from typing import Any

import providers
from config import catalog
from config.catalog import Model, Route
from config.settings import settings
from models import errors
from models.chat import ChatRequest
from routing import routes

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


def as_json(model: Model) -> dict[str, Any]:
    """Return `model` as `GET /models` shows it. Limits and the like are its first route's."""
    route = first_route(model)
    # What an unlisted model takes is OpenRouter's to know.
    known = model.id in catalog.catalog.models
    return catalog.as_json(
        model, routes.providers_of(model), route, takes(route) if known else None
    )


def first_route(model: Model) -> Route:
    """Return the route of `model` that would answer: it lives today, and its provider has a key.

    Where there is none, the one that would if it could.
    """
    today = datetime.datetime.now(datetime.UTC).date()
    living = [route for route in model.routes if not route.upstream.is_retired(today)]
    found = living or list(model.routes)
    return next((route for route in found if _is_on(route.provider)), found[0])


def takes(route: Route) -> list[str]:
    """Return the words of what `route` takes: those that its provider does not refuse."""
    return [word for word, wish in ASKING.items() if _honours(route, wish)]


def _is_on(provider: str) -> bool:
    return provider == routes.SANDBOX or bool(settings.keys_of(provider))


def _honours(route: Route, wish: dict[str, Any]) -> bool:
    said = {"model": route.upstream.id, "messages": [{"role": "user", "content": "Hello"}]}
    try:
        providers.get_one(route.provider).check(ChatRequest(said | wish), route)
    except errors.UnsupportedParameter:
        return False
    return True
