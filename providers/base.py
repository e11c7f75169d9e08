"""What every chat provider implements: `check`, `complete` and `stream`.

A provider holds no state and knows nothing of accounts, credits, queues or the database.
"""

from abc import ABC, abstractmethod
from collections.abc import Generator
from typing import Any, ClassVar

from config.catalog.model import Route
from models.chat import ChatRequest
from net.call import Call


class Provider(ABC):
    name: ClassVar[str]

    @abstractmethod
    def check(self, request: ChatRequest, route: Route) -> None:
        """Raise `UnsupportedParameter` for the first parameter that `route` does not support.

        A parameter at its default value, and one that does not change the answer (`user`,
        `metadata`, `store`, `service_tier`), is never refused.
        """

    @abstractmethod
    def complete(
        self, request: ChatRequest, route: Route, max_tokens: int | None, key: str, call: Call
    ) -> dict[str, Any]:
        """Request a whole answer and return it as OpenAI's `chat.completion` object.

        `max_tokens` is the limit to send, in tokens of one choice, and overrides the request's;
        `key` is the operator's key to use; `call` carries the deadline and can be aborted from
        outside. `usage` is there if the provider reports it. Raises the errors of
        `models.errors` that stand for the provider's: `InvalidRequest` and its subclasses for
        what the caller can mend, `ProviderFailed`, `ProviderRefusedUs`, `ModelGone`,
        `ProviderBusy`, `ProviderTimeout`, or whatever `call` was aborted with.
        """

    @abstractmethod
    def stream(
        self, request: ChatRequest, route: Route, max_tokens: int | None, key: str, call: Call
    ) -> Generator[dict[str, Any], None, None]:
        """Request a stream and yield OpenAI's `chat.completion.chunk` objects.

        Takes the parameters of `complete` and raises its errors, at any point; the request is sent
        when the first chunk is asked for. Each chunk has the same `id`, `object` and `created`, the
        provider's `model`, its `system_fingerprint` and `service_tier` if it has them, and
        `choices`, each with `index`, `delta`, `logprobs` and `finish_reason`:

        - the first delta of a choice has its role, and no other has; empty deltas are left out;
        - at the end, one chunk for each choice has its finish reason and an empty delta;
        - if the provider reports it, the last chunk has `usage`, and no choices.

        If the generator ends without an error, the answer is whole. If it is closed before its end,
        it closes the connection at once, which tells the provider to stop.
        """
