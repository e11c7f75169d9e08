"""What a provider answers, what was asked of it, and what came of a request."""

from typing import Any

import pytest

from models.chat import ChatRequest
from models.errors import LikeDoError
from net.call import Call
from routing import breakers, candidates
from routing.attempts import Attempt, Attempts
from routing.breakers import Reading
from tests.upstream import Upstream

HELLO = {"model": "gpt-4", "messages": [{"role": "user", "content": "Hello"}]}
OPENAI = HELLO | {"provider": "openai", "model": "gpt-4o"}
#: `gpt-4` goes to these: two models of OpenAI's, then one by way of OpenRouter.
WAYS = ["gpt-4.1", "gpt-6-sol", "openai/gpt-4.1"]


def failing(status: int, **more: Any) -> dict[str, Any]:
    error = {"message": "No.", "type": None, "param": None, "code": None} | more
    return {"status": status, "json": {"error": error}}


BROKEN, BUSY, REFUSED, GONE = failing(500), failing(429), failing(401), failing(404)
TOO_LONG = failing(400, code="context_length_exceeded")
DOWN = {"cut": -1}


class Asked:
    """A request and what came of it."""

    def __init__(self, body: dict[str, Any], seconds: float = 20) -> None:
        self.trail: list[dict[str, Any]] = []
        self.call = Call(seconds)
        self.spoken = False
        self.told = 0
        self._candidates = candidates.find(ChatRequest(body))

    def answer(self) -> dict[str, Any]:
        return Attempts(
            self._candidates, self.call, self.trail, lambda: self.spoken, self._tell
        ).answer(self._ask)

    def _ask(self, attempt: Attempt) -> dict[str, Any]:
        candidate = attempt.candidate
        key = attempt.key.secret
        return candidate.provider.complete(candidate.request, candidate.route, 10, key, self.call)

    def _tell(self) -> None:
        self.told += 1

    def fails(self) -> LikeDoError:
        with pytest.raises(LikeDoError) as raised:
            self.answer()
        return raised.value


def asked_for(upstream: Upstream) -> list[str]:
    return [call["body"]["model"] for call in upstream.calls()]


def keys_used(upstream: Upstream) -> list[str]:
    return [call["headers"]["authorization"].removeprefix("Bearer ") for call in upstream.calls()]


def breaker(provider: str = "openai", key: str = "sk-openai") -> Reading:
    return breakers.read(provider, key)
