"""The routes that can serve a request, in the order in which they are tried.

A provider without a key is off. If the sandbox is on, it stands in for the providers that are off;
a provider with a key answers for real. `sandbox/…` models exist only with the sandbox.

This file has what chats and images share, and what only chats need; `image_candidates` has what
only images need.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import providers
from config.catalog.fields import TAKES
from config.catalog.load import catalog
from config.catalog.model import ImageModel, ImageRoute, Model, Route, Upstream
from config.settings import settings
from models.chat import ChatRequest
from models.errors import InvalidRequest, ModelNotFound, NoProvider, UnsupportedParameter
from models.image import ImageRequest
from providers.base import Provider
from providers.image import ImageProvider

SANDBOX = "sandbox"

RequestT = TypeVar("RequestT", bound=ChatRequest | ImageRequest)
ModelT = TypeVar("ModelT", bound=Model | ImageModel)
RouteT = TypeVar("RouteT", bound=Route | ImageRoute)
ProviderT = TypeVar("ProviderT", bound=Provider | ImageProvider)


@dataclass(frozen=True)
class Candidate(Generic[RequestT, ModelT, RouteT, ProviderT]):
    """One way to serve a request: a route of the requested model, or of a fallback.

    `request` names `model`: if that is a fallback, it is the caller's request for the fallback.
    """

    request: RequestT
    model: ModelT
    route: RouteT
    provider: ProviderT

    @property
    def upstream_model(self) -> str:
        return self.route.upstream.id

    @property
    def context_tokens(self) -> int:
        """The length of the model's context; 0 if it is unknown or, as with images, irrelevant."""
        return 0


AnyCandidate = Candidate[Any, Any, Any, Any]
C = TypeVar("C", bound=AnyCandidate)


class ChatCandidate(Candidate[ChatRequest, Model, Route, Provider]):
    @property
    def context_tokens(self) -> int:
        return self.route.upstream.context_tokens or 0


# ---- Chats ---------------------------------------------------------------------------------------


def find(request: ChatRequest) -> list[ChatCandidate]:
    """Return the candidates that support all that `request` asks for, in the order to try them.

    Those of its model come first, then those of its fallbacks that have a provider here. Raises
    `ModelNotFound`, `InvalidRequest` on `provider`, `UnsupportedParameter` if no route of a model
    supports the request, and `NoProvider` if the routes that would are off.
    """
    of_model = _of_model(request, "model")
    fallbacks = usable_fallbacks(
        _of_model(request.for_fallback(name), f"fallbacks[{index}]")
        for index, name in enumerate(request.fallbacks)
    )
    if request.routing_preference is not None:
        allowed = _through_openrouter(of_model)
    else:
        allowed = at_provider(of_model, request.provider)
    return in_order(allowed, fallbacks, _stand_in)


def _of_model(request: ChatRequest, param: str) -> list[ChatCandidate]:
    """Return a candidate for each route of the request's model, which callers named in `param`."""
    model = get_one(request.model, param)
    return [
        ChatCandidate(request, model, route, providers.get_one(route.provider))
        for route in model.routes
    ]


def get_one(model_id: str, param: str = "model") -> Model:
    """Return the model that callers name `model_id` in `param`.

    Raises `ModelNotFound`, and `UnsupportedParameter` for an id without a price.
    """
    model = catalog.find(model_id)
    if model_id in catalog.images:
        raise ModelNotFound(
            f"'{model_id}' makes images and does not chat: POST /api/v1/ai/images/generations is "
            "where it answers.",
            param=param,
        )
    if catalog.is_unpriced(model_id):
        raise UnsupportedParameter(
            f"'{model_id}' leaves it to OpenRouter which model answers, or what is added to the "
            "answer, and has no price here. Name a model, as vendor/model.",
            param=param,
        )
    if model is None or not is_available(model):
        raise ModelNotFound(
            f"The model '{model_id}' does not exist. GET /api/v1/ai/models lists the models; "
            "any other one of OpenRouter's is named vendor/model.",
            param=param,
        )
    return model


def listed() -> list[Model]:
    """Return the models that callers can name, in the catalogue's order."""
    return [model for model in catalog.models.values() if is_available(model)]


def _through_openrouter(candidates: Sequence[ChatCandidate]) -> list[ChatCandidate]:
    at_openrouter = [each for each in candidates if each.provider.name == "openrouter"]
    if not at_openrouter:
        raise UnsupportedParameter(
            "'provider' as an object is OpenRouter's routing preference, and "
            f"'{candidates[0].model.id}' does not go to OpenRouter.",
            param="provider",
        )
    return at_openrouter


def _stand_in(real: ChatCandidate) -> ChatCandidate:
    """Return the sandbox in place of `real`, within its limits."""
    upstream = Upstream(
        provider=SANDBOX,
        id=real.model.id,
        context_tokens=real.route.upstream.context_tokens,
        max_output_tokens=real.route.upstream.max_output_tokens,
        takes=TAKES,
    )
    sandbox, route = providers.get_one(SANDBOX), Route(upstream=upstream)
    sandbox.check(real.request, route)
    return ChatCandidate(real.request, real.model, route, sandbox)


# ---- Chats and images ----------------------------------------------------------------------------


def at_provider(candidates: Sequence[C], provider: str | None) -> list[C]:
    """Return those of one model's `candidates` at `provider`; all of them if it is None."""
    matching = [each for each in candidates if provider in (None, each.provider.name)]
    if not matching:
        raise InvalidRequest(
            f"Invalid value for 'provider': '{candidates[0].model.id}' is served by "
            f"{' or '.join(_provider_names(candidates))}, not by {provider}.",
            param="provider",
        )
    return matching


def usable_fallbacks(fallbacks: Iterable[Sequence[C]]) -> list[C]:
    """Return the candidates of fallback models, without those of providers that are off.

    A model that could never serve the request is refused: it would fail when it is needed.
    """
    usable: list[C] = []
    for candidates in fallbacks:
        enabled = _enabled(candidates)
        try:
            supporting = _supporting(enabled or candidates)
        except UnsupportedParameter as error:
            message = (
                f"{error.message} Or leave '{candidates[0].request.model}' out of 'fallbacks'."
            )
            raise UnsupportedParameter(message, param=error.param) from None
        usable += supporting if enabled else []
    return usable


def in_order(allowed: Sequence[C], fallbacks: Sequence[C], stand_in: Callable[[C], C]) -> list[C]:
    """Return the candidates to try: the usable ones of `allowed`, then the `fallbacks`.

    If there are none, and the sandbox is on, it is what `stand_in` makes of the first one that
    supports the request. What the real provider would refuse is refused here too, so that a
    program that works on the sandbox still works when there are keys.
    """
    if enabled := _enabled(allowed):
        return _each_once([*_supporting(enabled), *fallbacks])
    if fallbacks:
        return _each_once(fallbacks)
    if not settings.sandbox:
        raise _no_provider(allowed)
    return [stand_in(_supporting(allowed)[0])]


def _enabled(candidates: Sequence[C]) -> list[C]:
    return [each for each in candidates if is_on(each.provider.name)]


def _supporting(candidates: Sequence[C]) -> list[C]:
    """Return those that support their request; raise the first refusal if none does."""
    supporting: list[C] = []
    refusals: list[InvalidRequest] = []
    for candidate in candidates:
        try:
            candidate.provider.check(candidate.request, candidate.route)
        except InvalidRequest as refusal:
            refusals.append(refusal)
        else:
            supporting.append(candidate)
    if not supporting:
        raise refusals[0]
    return supporting


def _each_once(candidates: Sequence[C]) -> list[C]:
    """Return `candidates` without repeated ones: same upstream model, same request."""
    distinct: list[C] = []
    for candidate in candidates:
        if not any(_is_same_call(candidate, other) for other in distinct):
            distinct.append(candidate)
    return distinct


def _is_same_call(candidate: AnyCandidate, other: AnyCandidate) -> bool:
    # Routes are compared field by field, which is slow; most of them differ by their model.
    same_model = candidate.upstream_model == other.upstream_model
    return same_model and candidate.route == other.route


def _no_provider(candidates: Sequence[AnyCandidate]) -> NoProvider:
    """Return the error for a model none of whose providers has a key."""
    keys = [key for name in _provider_names(candidates) if (key := catalog.key_variable(name))]
    return NoProvider(
        f"No provider that serves '{candidates[0].model.id}' has a key: the operator of this "
        f"service has to set {' or '.join(keys)}."
    )


def _provider_names(candidates: Sequence[AnyCandidate]) -> list[str]:
    return list(dict.fromkeys(each.provider.name for each in candidates))


def providers_of(model: Model | ImageModel) -> list[str]:
    """Return the providers that callers may name for `model` now: those that would answer."""
    names = dict.fromkeys(route.provider for route in model.routes)
    return [name for name in names if is_on(name) or settings.sandbox]


def is_available(model: Model | ImageModel) -> bool:
    """Tell whether callers can name `model` here."""
    return settings.sandbox or not model.id.startswith(f"{SANDBOX}/")


def is_on(provider: str) -> bool:
    """Tell whether `provider` can be called here."""
    return provider == SANDBOX or bool(settings.keys_of(provider))
