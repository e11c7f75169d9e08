"""Chat completions."""

from flask import Blueprint, Response, g

from api.request import admission, submit
from api.request.submit import Accepted
from api.response import answer, replay, stream
from billing.holds import ExistingJob, Hold
from jobs.lifecycle import quote
from models.chat import ChatRequest

bp = Blueprint("chat", __name__)


@bp.post("/chat/completions")
def create_completion() -> Response:
    """Answer a chat, at once or as a stream of chunks; or with the job that it is."""
    body = admission.read_body()
    if (again := replay.answer_retry(body)) is not None:
        return again
    with admission.admission_slots:
        admission.hit()
        chat = ChatRequest.read(admission.parse(body))
        asynchronous = submit.is_asynchronous(chat.body)
        its_terms = quote.chat(chat)
        accepted = submit.submit(
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
    if isinstance(accepted, ExistingJob):
        return replay.answer_existing(accepted.job_id, body)
    if accepted.waiter is None:
        return accepted.job()
    if chat.stream:
        return stream.stream(accepted.waiter, chat.cancels_on_disconnect)
    return answer.answer_when_done(accepted.waiter, chat.cancels_on_disconnect)


def _say_what_was_applied(chat: ChatRequest, held: Hold) -> None:
    if held.max_tokens != chat.max_tokens:
        g.job_headers["x-max-tokens-applied"] = str(held.max_tokens)
