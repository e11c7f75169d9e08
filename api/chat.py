"""Chat completions."""

from flask import Blueprint, Response, g

from api import accept, answers, guards, retries, streams
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
    """Answer a chat, at once or as a stream of chunks; or with the job that it is."""
    body = guards.read_body()
    if (again := retries.answered(body)) is not None:
        return again
    with guards.admission:
        guards.count()
        chat = ChatRequest.read(guards.parse(body))
        asynchronous = accept.is_asynchronous(chat.body)
        terms = terms_of(chat)
        accepted = accept.accept(
            "chat",
            body,
            terms,
            terms.prices[0],
            asynchronous,
            model=chat.model,
            stream=chat.stream,
            include_usage=chat.include_usage,
            cancel_on_disconnect=chat.cancels_on_disconnect and not asynchronous,
            webhook_url=chat.body.get("webhook_url"),
        )
        if isinstance(accepted, Response):
            return accepted
        _say_what_was_applied(chat, accepted.hold)
    if accepted.waiter is None:
        return accepted.job()
    if chat.stream:
        return streams.stream(accepted.waiter, chat.cancels_on_disconnect)
    return answers.wait(accepted.waiter, chat.cancels_on_disconnect)


def terms_of(chat: ChatRequest) -> ChatTerms:
    """Return what the call may cost over every route and fallback it may take."""
    return _terms(chat, routes.find(chat))


def _terms(chat: ChatRequest, ways: list[Way]) -> ChatTerms:
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
