"""The routes that can serve an image request, in the order in which they are tried.

As with chats, a provider without a key is off, and the sandbox stands in if no other is on.
"""

from typing import Any

import providers
from config.catalog.load import catalog
from config.catalog.model import MAX_IMAGES, ImageModel, ImageRoute
from models.errors import ModelNotFound
from models.image import ImageRequest
from providers.image import ImageProvider
from routing.candidates import (
    SANDBOX,
    Candidate,
    at_provider,
    in_order,
    is_available,
    usable_fallbacks,
)


class ImageCandidate(Candidate[ImageRequest, ImageModel, ImageRoute, ImageProvider]):
    @property
    def credits(self) -> int:
        """The credits that one image costs."""
        return self.model.price.each(self.request.quality)


def find(request: ImageRequest) -> list[ImageCandidate]:
    """Return the candidates that support all that `request` asks for, in the order to try them.

    Raises `ModelNotFound`, `InvalidRequest` on `provider` or the prompt, `UnsupportedParameter`
    if no route of a model supports the request, and `NoProvider` if those that would are off.
    """
    of_requested = of_model(request, get_one(request.model))
    fallbacks = usable_fallbacks(
        of_model(request.for_fallback(name), get_one(name, f"fallbacks[{index}]"))
        for index, name in enumerate(request.fallbacks)
    )
    return in_order(at_provider(of_requested, request.provider), fallbacks, _stand_in)


def of_model(request: ImageRequest, model: ImageModel) -> list[ImageCandidate]:
    """Return a candidate for each route of `model`, whether it supports the request or not."""
    return [
        ImageCandidate(request, model, route, providers.images[route.provider])
        for route in model.routes
    ]


def get_one(model_id: str, param: str = "model") -> ImageModel:
    """Return the model that callers name `model_id` in `param`; raise `ModelNotFound`."""
    model = catalog.images.get(model_id)
    if model is not None and is_available(model):
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
    """Return the models that callers can name, in the catalogue's order."""
    return [model for model in catalog.images.values() if is_available(model)]


def _stand_in(real: ImageCandidate) -> ImageCandidate:
    """Return the sandbox in place of `real`; it draws exactly the requested size."""
    size = str(real.request.size)
    facts: dict[str, Any] = {
        "provider": SANDBOX,
        "id": real.request.model,
        "sizes": {size: {"size": size}},
        "free_sizes": None,
        "qualities": dict.fromkeys(real.route.qualities, {}),
        "styles": dict.fromkeys(real.route.styles, {}),
        "sends": {},
        "images_per_call": MAX_IMAGES,
    }
    route = ImageRoute(upstream=real.route.upstream.model_copy(update=facts))
    return ImageCandidate(real.request, real.model, route, providers.images[SANDBOX])
