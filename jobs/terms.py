"""What a request may cost, over every route and fallback that it may take."""

from billing import pricing
from billing.pricing import ChatTerms, ImageTerms
from config.catalog import Model, catalog
from models import tokens
from models.chat import ChatRequest
from models.image import ImageRequest
from routing import image_routes, routes
from routing.routes import Way


def of_chat(chat: ChatRequest) -> ChatTerms:
    """Return what the call may cost. The first price is that of the model that was asked for."""
    ways = routes.find(chat)
    asked = chat.max_tokens
    most = max(_most_output(way, asked) for way in ways)
    return ChatTerms(
        prices=tuple(dict.fromkeys([_model(chat).price, *(way.model.price for way in ways)])),
        prompt_tokens=tokens.prompt_ceiling(chat.body),
        choices=chat.choices,
        most_output=most,
        least_output=most if asked else min(most, pricing.LEAST_OUTPUT_TOKENS),
    )


def _most_output(way: Way, asked: int | None) -> int:
    """Return the most output tokens of one choice on this way."""
    wanted = asked or way.model.default_output_tokens
    return min(wanted, way.route.upstream.max_output_tokens or wanted)


def _model(chat: ChatRequest) -> Model:
    model = catalog.find(chat.model)
    assert model is not None  # The routes were found by it.
    return model


def of_images(image: ImageRequest) -> ImageTerms:
    """Return what the images may cost. The first price is that of the model that was asked for."""
    ways = image_routes.find(image)
    price = image_routes.get_one(image.model).price.each(image.quality)
    return ImageTerms(tuple(dict.fromkeys([price, *(way.credits for way in ways)])), image.total)
