"""What a request may cost, over every route and fallback that it may take."""

from billing import pricing
from billing.pricing import ChatQuote, ImageQuote
from config.catalog.load import catalog
from config.catalog.model import Model
from models.chat import ChatRequest
from models.image import ImageRequest
from routing import candidates, image_candidates
from routing.candidates import Candidate
from tokens import ceiling


def chat(chat: ChatRequest) -> ChatQuote:
    """Return what the call may cost. The first price is that of the model that was asked for."""
    ways = candidates.find(chat)
    asked = chat.max_tokens
    most = max(_max_output(way, asked) for way in ways)
    return ChatQuote(
        prices=tuple(dict.fromkeys([_model(chat).price, *(way.model.price for way in ways)])),
        prompt_tokens=ceiling.prompt_ceiling(chat.body),
        choices=chat.choices,
        most_output=most,
        least_output=most if asked else min(most, pricing.MIN_OUTPUT_TOKENS),
    )


def _max_output(way: Candidate, asked: int | None) -> int:
    """Return the most output tokens of one choice on this way."""
    wanted = asked or way.model.default_output_tokens
    return min(wanted, way.route.upstream.max_output_tokens or wanted)


def _model(chat: ChatRequest) -> Model:
    model = catalog.find(chat.model)
    assert model is not None  # The routes were found by it.
    return model


def images(image: ImageRequest) -> ImageQuote:
    """Return what the images may cost. The first price is that of the model that was asked for."""
    ways = image_candidates.find(image)
    price = image_candidates.get_one(image.model).price.each(image.quality)
    return ImageQuote(tuple(dict.fromkeys([price, *(way.credits for way in ways)])), image.total)
