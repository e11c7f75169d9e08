"""Chat completions."""

from flask import Blueprint, Response

from api import submit
from api.response import answer, stream
from api.response.listening import Wait
from models.chat import ChatRequest

bp = Blueprint("chat", __name__)


@bp.post("/chat/completions")
def create_completion() -> Response:
    """Create a chat completion: JSON, an SSE stream, or 202 with a job."""
    return submit.create(ChatRequest.read, _answer)


def _answer(chat: ChatRequest, wait: Wait) -> Response:
    if chat.stream:
        return stream.stream(wait, chat.cancels_on_disconnect)
    return answer.answer_when_done(wait, chat.cancels_on_disconnect)
