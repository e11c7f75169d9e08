"""The routes that can serve a request, in the order in which they are tried.

A provider without a key is off. The sandbox, where it is on, stands in for those that are off;
a provider that has a key answers for real. `sandbox/…` models are there only with the sandbox.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import providers
from config.catalog import TAKES, Model, Route, Upstream, catalog
from config.settings import key_variable, settings
from models import errors
from models.chat import ChatRequest

SANDBOX = "sandbox"


@dataclass(frozen=True)
class Way:
    """One way to answer a request: a route of the model that was asked for, or of a fallback."""

    request: ChatRequest
    model: Model
    route: Route

    @property
    def provider(self) -> str:
        return self.route.provider

    @property
    def upstream_model(self) -> str:
        return self.route.upstream.id


def find(request: ChatRequest) -> list[Way]:
    """Return the ways to answer all that `request` asks for, in the order to try them in.

    First those of its model, then those of its fallbacks that have a provider here. Raises
    `ModelNotFound`, `InvalidRequest` on `provider`, `UnsupportedParameter` where no route of a
    model honours the request, and `NoProvider` where the routes that would are off.
    """
    model = get_one(request.model)
    fallbacks = list(_fallbacks(request))
    routes = _asked_for(model, request)
    if on := [route for route in routes if _is_on(route.provider)]:
        found = [Way(request, model, route) for route in _honouring(on, request)]
        return _each_once(found + fallbacks)
    if fallbacks:
        return _each_once(fallbacks)
    if not settings.sandbox:
        raise _no_provider(model, routes)
    # What the real one would refuse is refused here too, so that a program that works on the
    # sandbox goes on working when there are keys.
    stand_in = _stand_in(model, _honouring(routes, request)[0])
    return [Way(request, model, route) for route in _honouring([stand_in], request)]


def _fallbacks(request: ChatRequest) -> Iterator[Way]:
    """Yield the ways of the models to fall back on; those of providers that are off are left out.

    One that could never honour the request is refused: it would fail when it is needed.
    """
    for place, name in enumerate(request.fallbacks):
        param = f"fallbacks[{place}]"
        model, asked = get_one(name, param), request.for_fallback(name)
        on = [route for route in model.routes if _is_on(route.provider)]
        try:
            honouring = _honouring(on or list(model.routes), asked)
        except errors.UnsupportedParameter as refusal:
            message = f"{refusal.message} Or leave '{name}' out of 'fallbacks'."
            raise errors.UnsupportedParameter(message, param=refusal.param) from None
        yield from (Way(asked, model, route) for route in honouring if on)


def _each_once(ways: list[Way]) -> list[Way]:
    """Return `ways` without those that ask the same upstream model for the same again."""
    seen: list[Route] = []
    kept: list[Way] = []
    for way in ways:
        if way.route not in seen:
            seen.append(way.route)
            kept.append(way)
    return kept


def get_one(model_id: str, param: str = "model") -> Model:
    """Return the model that callers name `model_id` in `param`; raise `ModelNotFound`."""
    model = catalog.find(model_id)
    if model is None or not _is_there(model):
        raise errors.ModelNotFound(
            f"The model '{model_id}' does not exist. GET /api/v1/ai/models lists the models; "
            "any other one of OpenRouter's is named vendor/model.",
            param=param,
        )
    return model


def listed() -> list[Model]:
    """Return the models that callers are shown, in the catalogue's order."""
    return [model for model in catalog.models.values() if _is_there(model)]


def providers_of(model: Model) -> list[str]:
    """Return the providers a caller may insist on for `model` now: those that would answer."""
    return [name for name in _names(model.routes) if _is_on(name) or settings.sandbox]


def _is_there(model: Model) -> bool:
    return settings.sandbox or not model.id.startswith(f"{SANDBOX}/")


def _is_on(provider: str) -> bool:
    return provider == SANDBOX or bool(settings.keys_of(provider))


def _asked_for(model: Model, request: ChatRequest) -> list[Route]:
    """Return the routes of `model` that the request's `provider`, a name or an object, allows."""
    if request.routing_preference is not None:
        return _through_openrouter(model)
    if request.provider is None:
        return list(model.routes)
    routes = [route for route in model.routes if route.provider == request.provider]
    if not routes:
        raise errors.InvalidRequest(
            f"Invalid value for 'provider': '{model.id}' is served by "
            f"{_one_of(_names(model.routes))}, not by {request.provider}.",
            param="provider",
        )
    return routes


def _through_openrouter(model: Model) -> list[Route]:
    routes = [route for route in model.routes if route.provider == "openrouter"]
    if not routes:
        raise errors.UnsupportedParameter(
            "'provider' as an object is OpenRouter's routing preference, and "
            f"'{model.id}' does not go to OpenRouter.",
            param="provider",
        )
    return routes


def _honouring(routes: list[Route], request: ChatRequest) -> list[Route]:
    """Return those of `routes` that honour `request`; raise the first one's reason if none does."""
    honouring: list[Route] = []
    refusals: list[errors.UnsupportedParameter] = []
    for route in routes:
        try:
            providers.get_one(route.provider).check(request, route)
        except errors.UnsupportedParameter as refusal:
            refusals.append(refusal)
        else:
            honouring.append(route)
    if not honouring:
        raise refusals[0]
    return honouring


def _stand_in(model: Model, real: Route) -> Route:
    """Return the sandbox's route in place of `real`, within its limits."""
    upstream = Upstream(
        provider=SANDBOX,
        id=model.id,
        context_tokens=real.upstream.context_tokens,
        max_output_tokens=real.upstream.max_output_tokens,
        takes=TAKES,
    )
    return Route(upstream)


def _no_provider(model: Model, routes: list[Route]) -> errors.NoProvider:
    keys = [key_variable(name) for name in _names(routes)]
    return errors.NoProvider(
        f"No provider that serves '{model.id}' has a key: the operator of this service has to "
        f"set {_one_of(keys)}."
    )


def _names(routes: Sequence[Route]) -> list[str]:
    return list(dict.fromkeys(route.provider for route in routes))


def _one_of(words: list[str]) -> str:
    return " or ".join(words)
