"""Chat completions."""

import hashlib
import time
from typing import Any

from flask import Blueprint, Response, g, request

from api import answers, client, guards, streams
from billing import ledger, pricing
from billing.pricing import ChatTerms
from config.catalog import Model, catalog
from jobs import queues
from jobs.channel import Waiter
from models import errors, job, tokens
from models.chat import ChatRequest
from models.job import Status
from routing import routes
from routing.routes import Way

bp = Blueprint("chat", __name__)

OUR_SIDE = "Something went wrong on our side."

#: What a later version of this service will do, and this one refuses rather than ignore.
NOT_YET = ("background", "webhook_url")


@bp.post("/chat/completions")
def create_completion() -> Response:
    """Answer a chat, at once or as a stream of chunks."""
    body = guards.read_body()
    with guards.admission:
        guards.count()
        chat = ChatRequest.read(guards.parse(body))
        _refuse_what_is_not_yet(chat)
        waiter = _begin(chat, body, _terms(chat, routes.find(chat)))
    if chat.stream:
        return streams.stream(waiter, chat.cancels_on_disconnect)
    return answers.wait(waiter, chat.cancels_on_disconnect)


def _refuse_what_is_not_yet(chat: ChatRequest) -> None:
    for name in NOT_YET:
        if chat.body.get(name):
            raise errors.UnsupportedParameter(
                f"'{name}' is not supported yet: leave it out.", param=name
            )


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


def _begin(chat: ChatRequest, body: bytes, terms: ChatTerms) -> Waiter:
    """Listen, hold, enqueue: in this order, so that no answer can be missed."""
    if client.current().gone():
        raise client.Gone
    job_id = job.make_id()
    g.job_headers = {"x-job-id": job_id}
    waiter = answers.listener().listen(job_id)
    try:
        held = ledger.hold(_row(job_id, chat, body, terms), terms)
        _say_what_was_applied(chat, held)
        _enqueue(waiter, job_id, body)
    except BaseException:
        waiter.close()
        raise
    return waiter


def _enqueue(waiter: Waiter, job_id: str, body: bytes) -> None:
    try:
        waiter.ready()
        queues.enqueue(job_id, "chat", body)
    except Exception as error:
        known = error if isinstance(error, errors.LikeDoError) else errors.InternalError(OUR_SIDE)
        ledger.end_unclaimed(job_id, Status.FAILED, known)
        raise


def _say_what_was_applied(chat: ChatRequest, held: ledger.Hold) -> None:
    if held.max_tokens != chat.max_tokens:
        g.job_headers["x-max-tokens-applied"] = str(held.max_tokens)


def _row(job_id: str, chat: ChatRequest, body: bytes, terms: ChatTerms) -> dict[str, Any]:
    now = time.time()
    return {
        "id": job_id,
        "account_id": guards.caller().account_id,
        "key_id": guards.caller().key_id,
        "kind": "chat",
        "model": chat.model,
        "fingerprint": hashlib.sha256(request.path.encode() + b"\n" + body).hexdigest(),
        "body_bytes": len(body),
        "body_at": queues.body_place(body),
        "attempts": 0,
        "cancel_requested": False,
        "stream": chat.stream,
        "include_usage": chat.include_usage,
        "cancel_on_disconnect": chat.cancels_on_disconnect,
        "created": now,
        "enqueued_at": now,
        "price": pricing.as_text(terms.prices[0]),
    }
