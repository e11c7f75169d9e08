"""The kind `chat`: the quote of a request, and the columns of its job's row."""

from typing import Any

from billing import pricing
from billing.holds import Hold
from billing.pricing import ChatQuote
from config.catalog.load import catalog
from config.catalog.model import Model
from config.settings import settings
from jobs.kinds.kind import Kind
from models.chat import ChatRequest
from routing import candidates
from routing.candidates import ChatCandidate
from tokens import ceiling


def quote(chat: ChatRequest) -> ChatQuote:
    """Return what the call may cost; the first price is that of the requested model."""
    routes = candidates.find(chat)
    max_output = max(_max_output(candidate, chat.max_tokens) for candidate in routes)
    prices = [_model(chat).price, *(candidate.model.price for candidate in routes)]
    return ChatQuote(
        prices=tuple(dict.fromkeys(prices)),
        prompt_tokens=ceiling.prompt_ceiling(chat.body, max(map(_context, routes))),
        choices=chat.choices,
        max_output=max_output,
        min_output=max_output if chat.max_tokens else min(max_output, pricing.MIN_OUTPUT_TOKENS),
    )


def _context(candidate: ChatCandidate) -> int:
    return candidate.context_tokens or catalog.defaults.unlisted.context_tokens


def _max_output(candidate: ChatCandidate, requested: int | None) -> int:
    """Return the maximum of output tokens of one choice on this route."""
    tokens = requested or candidate.model.default_output_tokens
    return min(tokens, candidate.route.upstream.max_output_tokens or tokens)


def _model(chat: ChatRequest) -> Model:
    model = catalog.find(chat.model)
    assert model is not None  # Its candidates were found by this name.
    return model


def _read(body: Any, asynchronous: bool) -> ChatRequest:
    return ChatRequest.read(body)


def _columns(chat: ChatRequest) -> dict[str, Any]:
    return {
        "model": chat.model,
        "stream": chat.stream,
        "include_usage": chat.include_usage,
        "cancel_on_disconnect": chat.cancels_on_disconnect,
    }


def _applied_headers(chat: ChatRequest, held: Hold) -> dict[str, str]:
    if held.max_tokens == chat.max_tokens:
        return {}
    return {"x-max-tokens-applied": str(held.max_tokens)}


CHAT = Kind(
    name="chat",
    read=_read,
    identified_by="messages",
    from_validated=ChatRequest.from_validated,
    find=candidates.find,
    quote=quote,
    columns=_columns,
    module="chat",
    concurrency=lambda: settings.worker_concurrency,
    batch_endpoint="/v1/chat/completions",
    applied_headers=_applied_headers,
)
