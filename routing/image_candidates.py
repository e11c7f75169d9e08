"""The routes that can serve an image request, in the order in which they are tried.

As with chats, a provider without a key is off, and the sandbox stands in where no other is on.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import providers
from config.catalog.load import catalog
from config.catalog.model import MAX_IMAGES, ImageModel, ImageRoute
from config.settings import settings
from models.errors import ModelNotFound
from models.image import ImageRequest
from providers import image
from routing import candidates
from routing.candidates import SANDBOX


@dataclass(frozen=True)
class ImageCandidate:
    """One way to have images made: a route of the model that was asked for, or of a fallback."""

    request: ImageRequest
    model: ImageModel
    route: ImageRoute

    #: No prompt of an image is too long for one model and not for another.
    context_tokens = 0

    @property
    def provider(self) -> str:
        return self.route.provider

    @property
    def upstream_model(self) -> str:
        return self.route.upstream.id

    @property
    def credits(self) -> int:
        """What one image costs."""
        return self.model.price.each(self.request.quality)


def find(request: ImageRequest) -> list[ImageCandidate]:
    """Return the ways to make what `request` asks for, in the order to try them in.

    Raises `ModelNotFound`, `InvalidRequest` on `provider` or the prompt, `UnsupportedParameter`
    where no route of a model honours the request, and `NoProvider` where those that would are off.
    """
    model = get_one(request.model)
    fallbacks = list(_fallbacks(request))
    asked_for = candidates.named(model.id, model.routes, request.provider)
    if on := [route for route in asked_for if candidates.is_on(route.provider)]:
        found = [ImageCandidate(request, model, route) for route in _honouring(on, request)]
        return candidates.each_once(found + fallbacks)
    if fallbacks:
        return candidates.each_once(fallbacks)
    if not settings.sandbox:
        raise candidates.no_provider(model.id, candidates.names_of(asked_for))
    # What the real one would refuse is refused here too.
    return [ImageCandidate(request, model, _stand_in(request, _honouring(asked_for, request)[0]))]


def get_one(model_id: str, param: str = "model") -> ImageModel:
    """Return the model that callers name `model_id` in `param`; raise `ModelNotFound`."""
    model = catalog.images.get(model_id)
    if model is not None and candidates.is_there(model):
        return model
    if model_id in catalog.models:
        raise ModelNotFound(
            f"'{model_id}' chats and makes no images: POST /api/v1/ai/chat/completions is where "
            "it answers.",
            param=param,
        )
    raise ModelNotFound(
        f"The model '{model_id}' does not exist, or makes no images. GET /api/v1/ai/models lists "
        'the models; those of the kind "image" do.',
        param=param,
    )


def listed() -> list[ImageModel]:
    """Return the models that callers are shown, in the catalogue's order."""
    return [model for model in catalog.images.values() if candidates.is_there(model)]


def _fallbacks(request: ImageRequest) -> Iterator[ImageCandidate]:
    """Yield the ways of the models to fall back on; those of providers that are off are left out.

    One that could never honour the request is refused: it would fail when it is needed.
    """
    for place, name in enumerate(request.fallbacks):
        model, asked = get_one(name, f"fallbacks[{place}]"), request.for_fallback(name)
        on = [route for route in model.routes if candidates.is_on(route.provider)]
        honouring = _honouring(on or model.routes, asked)
        yield from (ImageCandidate(asked, model, route) for route in honouring if on)


def _honouring(found: Sequence[ImageRoute], request: ImageRequest) -> list[ImageRoute]:
    return candidates.honouring(
        found, lambda route: image.check(providers.images[route.provider], request, route)
    )


def _stand_in(request: ImageRequest, real: ImageRoute) -> ImageRoute:
    """Return the sandbox's route in place of `real`: it draws the very size that was asked for."""
    facts: dict[str, Any] = {
        "provider": SANDBOX,
        "id": request.model,
        "sizes": {str(request.size): {"size": str(request.size)}},
        "free_sizes": None,
        "qualities": dict.fromkeys(real.qualities, {}),
        "styles": dict.fromkeys(real.styles, {}),
        "sends": {},
        "images_per_call": MAX_IMAGES,
    }
    return ImageRoute(upstream=real.upstream.model_copy(update=facts))
