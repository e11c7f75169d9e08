"""Chat completions."""

from flask import Blueprint, Response, g

from api import accept, answers, guards, streams
from billing import ledger, pricing
from billing.pricing import ChatTerms
from config.catalog import Model, catalog
from models import tokens
from models.chat import ChatRequest
from routing import routes
from routing.routes import Way

bp = Blueprint("chat", __name__)


@bp.post("/chat/completions")
def create_completion() -> Response:
    """Answer a chat, at once or as a stream of chunks."""
    body = guards.read_body()
    with guards.admission:
        guards.count()
        chat = ChatRequest.read(guards.parse(body))
        accept.refuse_what_is_not_yet(chat.body)
        terms = _terms(chat, routes.find(chat))
        waiter, held = accept.accept(
            "chat",
            body,
            terms,
            terms.prices[0],
            model=chat.model,
            stream=chat.stream,
            include_usage=chat.include_usage,
            cancel_on_disconnect=chat.cancels_on_disconnect,
        )
        _say_what_was_applied(chat, held)
    if chat.stream:
        return streams.stream(waiter, chat.cancels_on_disconnect)
    return answers.wait(waiter, chat.cancels_on_disconnect)


def _terms(chat: ChatRequest, ways: list[Way]) -> ChatTerms:
    """Return what the call may cost over every route and fallback it may take."""
    asked = chat.max_tokens
    most = max(_most_output(way, asked) for way in ways)
    return ChatTerms(
        # The first is the price of the model that was asked for.
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


def _say_what_was_applied(chat: ChatRequest, held: ledger.Hold) -> None:
    if held.max_tokens != chat.max_tokens:
        g.job_headers["x-max-tokens-applied"] = str(held.max_tokens)
