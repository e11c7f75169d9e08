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

        Parameters at their default value, and those that do not change the answer (`user`,
        `metadata`, `store`, `service_tier`), are never refused.
        """

    @abstractmethod
    def complete(
        self, request: ChatRequest, route: Route, max_tokens: int | None, key: str, call: Call
    ) -> dict[str, Any]:
        """Request a whole answer and return it as OpenAI's `chat.completion` object.

        `max_tokens` is the limit to send, in tokens per choice, and overrides the request's.
        `key` is the operator's key. `call` carries the deadline and can be aborted from outside.
        The result has `usage` if the provider reports it.

        Provider errors are raised as errors of `models.errors`: `InvalidRequest` and its
        subclasses if the caller can fix the request, else `ProviderFailed`, `ProviderRefusedUs`,
        `ModelGone`, `ProviderBusy` or `ProviderTimeout`. If `call` was aborted, its error is
        raised.
        """

    @abstractmethod
    def stream(
        self, request: ChatRequest, route: Route, max_tokens: int | None, key: str, call: Call
    ) -> Generator[dict[str, Any], None, None]:
        """Request a stream and yield OpenAI's `chat.completion.chunk` objects.

        Takes the parameters of `complete` and may raise its errors at any point. The request is
        sent when the first chunk is requested. All chunks have the same `id`, `object` and
        `created`. Each also has the provider's `model`, its `system_fingerprint` and
        `service_tier` if it sends them, and `choices`, each with `index`, `delta`, `logprobs` and
        `finish_reason`:

        - only the first delta of a choice has a role; empty deltas are left out;
        - at the end, one chunk per choice has its finish reason and an empty delta;
        - if the provider reports usage, the last chunk has `usage` and no choices.

        If the generator ends without an error, the answer is complete. Closing it early closes the
        connection at once, which tells the provider to stop.
        """
