"""The routes that can serve a request, in the order in which they are tried.

A provider without a key is off. The sandbox, where it is on, stands in for those that are off;
a provider that has a key answers for real. `sandbox/…` models are there only with the sandbox.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import providers
from config.catalog.fields import TAKES
from config.catalog.load import catalog
from config.catalog.model import ImageModel, ImageRoute, Model, Route, Upstream
from config.settings import settings
from models.chat import ChatRequest
from models.errors import InvalidRequest, ModelNotFound, NoProvider, UnsupportedParameter

SANDBOX = "sandbox"

#: A way, of whichever kind: it has a `route`.
W = TypeVar("W", bound=Any)
R = TypeVar("R", Route, ImageRoute)


@dataclass(frozen=True)
class Candidate:
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

    @property
    def context_tokens(self) -> int:
        return self.route.upstream.context_tokens or 0


def find(request: ChatRequest) -> list[Candidate]:
    """Return the ways to answer all that `request` asks for, in the order to try them in.

    First those of its model, then those of its fallbacks that have a provider here. Raises
    `ModelNotFound`, `InvalidRequest` on `provider`, `UnsupportedParameter` where no route of a
    model honours the request, and `NoProvider` where the routes that would are off.
    """
    model = get_one(request.model)
    fallbacks = list(_fallbacks(request))
    routes = _asked_for(model, request)
    if on := [route for route in routes if is_on(route.provider)]:
        found = [Candidate(request, model, route) for route in _honouring(on, request)]
        return each_once(found + fallbacks)
    if fallbacks:
        return each_once(fallbacks)
    if not settings.sandbox:
        raise no_provider(model.id, names_of(routes))
    # What the real one would refuse is refused here too, so that a program that works on the
    # sandbox goes on working when there are keys.
    stand_in = _stand_in(model, _honouring(routes, request)[0])
    return [Candidate(request, model, route) for route in _honouring([stand_in], request)]


def _fallbacks(request: ChatRequest) -> Iterator[Candidate]:
    """Yield the ways of the models to fall back on; those of providers that are off are left out.

    One that could never honour the request is refused: it would fail when it is needed.
    """
    for place, name in enumerate(request.fallbacks):
        param = f"fallbacks[{place}]"
        model, asked = get_one(name, param), request.for_fallback(name)
        on = [route for route in model.routes if is_on(route.provider)]
        try:
            honouring = _honouring(on or list(model.routes), asked)
        except UnsupportedParameter as refusal:
            message = f"{refusal.message} Or leave '{name}' out of 'fallbacks'."
            raise UnsupportedParameter(message, param=refusal.param) from None
        yield from (Candidate(asked, model, route) for route in honouring if on)


def each_once(ways: list[W]) -> list[W]:
    """Return `ways` without those that ask the same upstream model for the same again."""
    seen: list[Any] = []
    kept: list[W] = []
    for way in ways:
        if way.route not in seen:
            seen.append(way.route)
            kept.append(way)
    return kept


def get_one(model_id: str, param: str = "model") -> Model:
    """Return the model that callers name `model_id` in `param`; raise `ModelNotFound`."""
    model = catalog.find(model_id)
    if model_id in catalog.images:
        raise ModelNotFound(
            f"'{model_id}' makes images and does not chat: POST /api/v1/ai/images/generations is "
            "where it answers.",
            param=param,
        )
    if model is None or not is_there(model):
        raise ModelNotFound(
            f"The model '{model_id}' does not exist. GET /api/v1/ai/models lists the models; "
            "any other one of OpenRouter's is named vendor/model.",
            param=param,
        )
    return model


def listed() -> list[Model]:
    """Return the models that callers are shown, in the catalogue's order."""
    return [model for model in catalog.models.values() if is_there(model)]


def providers_of(model: Model | ImageModel) -> list[str]:
    """Return the providers a caller may insist on for `model` now: those that would answer."""
    return [name for name in names_of(model.routes) if is_on(name) or settings.sandbox]


def is_there(model: Model | ImageModel) -> bool:
    """Tell whether callers can name `model` here."""
    return settings.sandbox or not model.id.startswith(f"{SANDBOX}/")


def is_on(provider: str) -> bool:
    """Tell whether `provider` can be asked here."""
    return provider == SANDBOX or bool(settings.keys_of(provider))


def _asked_for(model: Model, request: ChatRequest) -> list[Route]:
    """Return the routes of `model` that the request's `provider`, a name or an object, allows."""
    if request.routing_preference is not None:
        return _through_openrouter(model)
    return named(model.id, model.routes, request.provider)


def named(model_id: str, routes: Sequence[R], provider: str | None) -> list[R]:
    """Return those of a model's `routes` that go to `provider`; all of them where it is None."""
    found = [route for route in routes if provider in (None, route.provider)]
    if not found:
        raise InvalidRequest(
            f"Invalid value for 'provider': '{model_id}' is served by "
            f"{one_of(names_of(routes))}, not by {provider}.",
            param="provider",
        )
    return found


def _through_openrouter(model: Model) -> list[Route]:
    routes = [route for route in model.routes if route.provider == "openrouter"]
    if not routes:
        raise UnsupportedParameter(
            "'provider' as an object is OpenRouter's routing preference, and "
            f"'{model.id}' does not go to OpenRouter.",
            param="provider",
        )
    return routes


def _honouring(routes: Sequence[Route], request: ChatRequest) -> list[Route]:
    return honouring(routes, lambda route: providers.get_one(route.provider).check(request, route))


def honouring(routes: Sequence[R], check: Callable[[R], None]) -> list[R]:
    """Return those of `routes` that `check` lets through; raise its first refusal if none is."""
    found: list[R] = []
    refusals: list[InvalidRequest] = []
    for route in routes:
        try:
            check(route)
        except InvalidRequest as refusal:
            refusals.append(refusal)
        else:
            found.append(route)
    if not found:
        raise refusals[0]
    return found


def _stand_in(model: Model, real: Route) -> Route:
    """Return the sandbox's route in place of `real`, within its limits."""
    upstream = Upstream(
        provider=SANDBOX,
        id=model.id,
        context_tokens=real.upstream.context_tokens,
        max_output_tokens=real.upstream.max_output_tokens,
        takes=TAKES,
    )
    return Route(upstream=upstream)


def no_provider(model_id: str, names: Sequence[str]) -> NoProvider:
    """Return what is said where none of the providers `names`, which serve a model, has a key."""
    keys = [key for name in names if (key := catalog.key_variable(name))]
    return NoProvider(
        f"No provider that serves '{model_id}' has a key: the operator of this service has to "
        f"set {one_of(keys)}."
    )


def names_of(routes: Sequence[Route] | Sequence[ImageRoute]) -> list[str]:
    """Return the providers of `routes`, each once."""
    return list(dict.fromkeys(route.provider for route in routes))


def one_of(words: list[str]) -> str:
    """Return `words` as a choice among them."""
    return " or ".join(words)
