"""Chat completions."""

from flask import Blueprint, Response, g

from api import accept, answers, guards, retries, streams
from api.accept import Accepted
from billing import ledger
from billing.ledger import There
from jobs import terms
from models.chat import ChatRequest

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
        its_terms = terms.of_chat(chat)
        accepted = accept.accept(
            "chat",
            body,
            its_terms,
            its_terms.prices[0],
            asynchronous,
            model=chat.model,
            stream=chat.stream,
            include_usage=chat.include_usage,
            cancel_on_disconnect=chat.cancels_on_disconnect and not asynchronous,
            webhook_url=chat.body.get("webhook_url"),
        )
        if isinstance(accepted, Accepted):
            _say_what_was_applied(chat, accepted.hold)
    # What waits for others' jobs must not keep others from being admitted.
    if isinstance(accepted, There):
        return retries.there(accepted.job_id, body)
    if accepted.waiter is None:
        return accepted.job()
    if chat.stream:
        return streams.stream(accepted.waiter, chat.cancels_on_disconnect)
    return answers.wait(accepted.waiter, chat.cancels_on_disconnect)


def _say_what_was_applied(chat: ChatRequest, held: ledger.Hold) -> None:
    if held.max_tokens != chat.max_tokens:
        g.job_headers["x-max-tokens-applied"] = str(held.max_tokens)
