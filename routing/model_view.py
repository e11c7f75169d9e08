"""The models as callers are shown them: what the catalogue says, as it holds here and today."""

import datetime
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, TypeVar

import providers as _providers
from config.catalog import load
from config.catalog import model as catalog_model
from config.catalog.model import FreeSizes, ImageModel, ImageRoute, Model, Route
from models.chat import ChatRequest
from models.errors import UnsupportedParameter
from routing import candidates, image_candidates

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
    chats = [as_json(model) for model in candidates.listed()]
    return chats + [image_as_json(model) for model in image_candidates.listed()]


def get_one(model_id: str) -> dict[str, Any]:
    """Return one model as `GET /models/{id}` shows it; raise `ModelNotFound`."""
    if model_id in load.catalog.images:
        return image_as_json(image_candidates.get_one(model_id))
    return as_json(candidates.get_one(model_id))


def as_json(model: Model) -> dict[str, Any]:
    """Return `model` as `GET /models` shows it. Limits and the like are its first route's."""
    route = first_route(model.routes)
    # What an unlisted model takes is OpenRouter's to know.
    known = model.id in load.catalog.models
    return offer_as_json(
        model, candidates.providers_of(model), route, takes(route) if known else None
    )


def image_as_json(model: ImageModel) -> dict[str, Any]:
    """Return a model that makes images as `GET /models` shows it: what its first route takes."""
    return image_offer_as_json(model, candidates.providers_of(model), first_route(model.routes))


def first_route(routes_of_model: Sequence[R]) -> R:
    """Return the route that would answer: its model lives today, and its provider has a key.

    Where there is none, the one that would if it could.
    """
    today = datetime.datetime.now(datetime.UTC).date()
    living = [route for route in routes_of_model if not route.upstream.is_retired(today)]
    found = living or list(routes_of_model)
    return next((route for route in found if candidates.is_on(route.provider)), found[0])


def takes(route: Route) -> list[str]:
    """Return the words of what `route` takes: those that its provider does not refuse."""
    return [word for word, wish in ASKING.items() if _honours(route, wish)]


def _honours(route: Route, wish: dict[str, Any]) -> bool:
    said = {"model": route.upstream.id, "messages": [{"role": "user", "content": "Hello"}]}
    try:
        _providers.get_one(route.provider).check(ChatRequest(said | wish), route)
    except UnsupportedParameter:
        return False
    return True


def offer_as_json(
    model: Model, providers: list[str], route: Route, takes: list[str] | None
) -> dict[str, Any]:
    """Return `model` as `GET /models` shows it: OpenAI's shape, and what callers pay and get.

    `providers` are the names that the `provider` parameter takes for it; `route` is the one that
    is tried first, and `takes` what that one takes, in words of `TAKES`, or None where only the
    provider knows. A price that is not whole is a string, so that it stays exact.
    """
    upstream = route.upstream
    shown: dict[str, Any] = {
        "id": model.id,
        "object": "model",
        "created": model.created,
        "owned_by": model.owned_by,
        "kind": model.kind,
        "providers": providers,
        "pricing": {
            "unit": "credits per 1000 tokens",
            "prompt": catalog_model.plain(model.price.prompt),
            "completion": catalog_model.plain(model.price.completion),
        },
        "limits": {
            "context_tokens": upstream.context_tokens,
            "max_output_tokens": upstream.max_output_tokens,
            "default_output_tokens": model.default_output_tokens,
        },
        "takes": takes,
        "reasoning": None if takes is None else route.reasons,
    }
    if upstream.retires:
        shown["retires"] = upstream.retires.isoformat()
    if model.successor:
        shown["successor"] = model.successor
    return shown


def image_offer_as_json(
    model: ImageModel, providers: list[str], route: ImageRoute
) -> dict[str, Any]:
    """Return a model that makes images as `GET /models` shows it, `route` being tried first.

    `takes.sizes` are those that every model has here and those that the model makes itself;
    `limits.free_sizes`, where it makes others, says which, in pixels. A quality that the first
    route lacks is made by another one of the `providers`.
    """
    upstream = route.upstream
    there = [route, *(each for each in model.routes if each.provider in providers)]
    qualities = list(dict.fromkeys(name for each in there for name in each.qualities))
    shown: dict[str, Any] = {
        "id": model.id,
        "object": "model",
        "created": model.created,
        "owned_by": model.owned_by,
        "kind": model.kind,
        "providers": providers,
        "pricing": {
            "unit": "credits per image",
            "standard": model.price.standard,
            "hd": model.price.hd if "hd" in qualities else None,
        },
        "limits": {
            "images": catalog_model.MOST_IMAGES,
            "prompt_characters": upstream.prompt_characters,
            "free_sizes": _limits(upstream.free_sizes),
        },
        "takes": {
            "sizes": list(dict.fromkeys([*catalog_model.DOCUMENTED_SIZES, *upstream.sizes])),
            "qualities": qualities,
            "styles": sorted(route.styles),
            "parameters": sorted(upstream.takes),
        },
    }
    if upstream.retires:
        shown["retires"] = upstream.retires.isoformat()
    if model.successor:
        shown["successor"] = model.successor
    return shown


def _limits(free: FreeSizes | None) -> dict[str, int | str] | None:
    if free is None:
        return None
    limits = {name: value for name, value in asdict(free).items() if name != "sends"}
    return limits | {"most_aspect": catalog_model.plain(free.most_aspect)}
