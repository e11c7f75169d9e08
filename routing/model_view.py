"""Models as `GET /models` shows them: the catalogue's, as available here today."""

import datetime
from collections.abc import Sequence
from typing import Any, TypeVar

import providers
from config.catalog.load import catalog
from config.catalog.model import (
    DOCUMENTED_SIZES,
    MAX_IMAGES,
    FreeSizes,
    ImageModel,
    ImageRoute,
    Model,
    Route,
    plain,
)
from models.chat import ChatRequest
from models.errors import UnsupportedParameter
from routing import candidates, image_candidates

R = TypeVar("R", Route, ImageRoute)

_FUNCTION = {"type": "function", "function": {"name": "look"}}
_SCHEMA = {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object"}}}


def _with_part(part: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [part]}]}


#: For each word of `TAKES`, example parameters of a request that needs it.
EXAMPLES: dict[str, dict[str, Any]] = {
    "sampling": {"temperature": 0.2, "top_p": 0.5, "presence_penalty": 1, "frequency_penalty": 1},
    "logprobs": {"logprobs": True},
    "stop": {"stop": "END"},
    "seed": {"seed": 1},
    "n": {"n": 2},
    "tools": {"tools": [_FUNCTION]},
    "json_object": {"response_format": {"type": "json_object"}},
    "json_schema": {"response_format": _SCHEMA},
    "images": _with_part({"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}),
    "audio": _with_part({"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}),
    "files": _with_part({"type": "file", "file": {"file_data": ""}}),
    "reasoning_effort": {"reasoning_effort": "low"},
}


def listing() -> list[dict[str, Any]]:
    """Return the models that callers can name, as `GET /models` shows them; chat models first."""
    chats = [as_json(model) for model in candidates.listed()]
    return chats + [image_as_json(model) for model in image_candidates.listed()]


def get_one(model_id: str) -> dict[str, Any]:
    """Return one model as `GET /models/{id}` shows it; raise `ModelNotFound`."""
    if model_id in catalog.images:
        return image_as_json(image_candidates.get_one(model_id))
    return as_json(candidates.get_one(model_id))


def as_json(model: Model) -> dict[str, Any]:
    """Return `model` as `GET /models` shows it: OpenAI's fields, prices, limits and features.

    `providers` are the values of the `provider` parameter for it. Limits and features are those of
    its first route. `takes` and `reasoning` are None for a model that only OpenRouter knows. A
    fractional price is a string, so that it is exact.
    """
    route = first_route(model.routes)
    upstream = route.upstream
    is_known = model.id in catalog.models
    shown: dict[str, Any] = {
        **_head(model),
        "pricing": {
            "unit": "credits per 1000 tokens",
            "prompt": plain(model.price.prompt),
            "completion": plain(model.price.completion),
        },
        "limits": {
            "context_tokens": upstream.context_tokens,
            "max_output_tokens": upstream.max_output_tokens,
            "default_output_tokens": model.default_output_tokens,
        },
        "takes": supported_features(route) if is_known else None,
        "reasoning": route.reasons if is_known else None,
    }
    return shown | _end(model, route)


def image_as_json(model: ImageModel) -> dict[str, Any]:
    """Return an image model as `GET /models` shows it, with the features of its first route.

    `takes.sizes` are the sizes that every model has here and those that the model makes itself;
    `limits.free_sizes` limits the others that it makes, in pixels, or is None. A quality that the
    first route does not support is served by another of the `providers`.
    """
    route = first_route(model.routes)
    upstream = route.upstream
    names = candidates.providers_of(model)
    usable = [route, *(each for each in model.routes if each.provider in names)]
    qualities = list(dict.fromkeys(name for each in usable for name in each.qualities))
    shown: dict[str, Any] = {
        **_head(model),
        "pricing": {
            "unit": "credits per image",
            "standard": model.price.standard,
            "hd": model.price.hd if "hd" in qualities else None,
        },
        "limits": {
            "images": MAX_IMAGES,
            "prompt_characters": upstream.prompt_characters,
            "free_sizes": _limits(upstream.free_sizes),
        },
        "takes": {
            "sizes": list(dict.fromkeys([*DOCUMENTED_SIZES, *upstream.sizes])),
            "qualities": qualities,
            "styles": sorted(route.styles),
            "parameters": sorted(upstream.takes),
        },
    }
    return shown | _end(model, route)


def _head(model: Model | ImageModel) -> dict[str, Any]:
    midnight = datetime.datetime.combine(model.created, datetime.time(), datetime.UTC)
    return {
        "id": model.id,
        "object": "model",
        "created": int(midnight.timestamp()),
        "owned_by": model.owned_by,
        "kind": model.kind,
        "providers": candidates.providers_of(model),
    }


def _end(model: Model | ImageModel, route: Route | ImageRoute) -> dict[str, Any]:
    """Return when the model of `route` retires, and the successor of `model`, if any."""
    retires = route.upstream.retires
    ends = {"retires": retires.isoformat()} if retires else {}
    return ends | ({"successor": model.successor} if model.successor else {})


def _limits(free: FreeSizes | None) -> dict[str, int | str] | None:
    if free is None:
        return None
    return {
        "multiple_of": free.multiple_of,
        "longest_side": free.longest_side,
        "most_aspect": plain(free.most_aspect),
        "least_pixels": free.least_pixels,
        "most_pixels": free.most_pixels,
    }


def first_route(routes_of_model: Sequence[R]) -> R:
    """Return the first route whose model is not retired and whose provider can be called.

    If there is none, returns the first one that is not retired, or else the first.
    """
    today = datetime.datetime.now(datetime.UTC).date()
    live = [route for route in routes_of_model if not route.upstream.is_retired(today)]
    routes = live or list(routes_of_model)
    return next((route for route in routes if candidates.is_on(route.provider)), routes[0])


def supported_features(route: Route) -> list[str]:
    """Return the words of `TAKES` that the provider of `route` does not refuse."""
    return [word for word, example in EXAMPLES.items() if _is_supported(route, example)]


def _is_supported(route: Route, parameters: dict[str, Any]) -> bool:
    body = {"model": route.upstream.id, "messages": [{"role": "user", "content": "Hello"}]}
    try:
        providers.get_one(route.provider).check(ChatRequest(body | parameters), route)
    except UnsupportedParameter:
        return False
    return True
