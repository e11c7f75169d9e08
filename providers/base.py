"""What every provider is: a name, a check of what it can honour, and a way to ask it.

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
        """Raise `UnsupportedParameter` for the first parameter that `route` cannot honour.

        A parameter at its default value, and one that does not change the answer (`user`,
        `metadata`, `store`, `service_tier`), is never refused.
        """

    @abstractmethod
    def complete(
        self, request: ChatRequest, route: Route, max_tokens: int | None, key: str, call: Call
    ) -> dict[str, Any]:
        """Ask for a whole answer and return it as OpenAI's `chat.completion` object.

        `max_tokens` is the limit to send, in tokens of one choice, and overrides the request's;
        `key` is the operator's key to use; `call` carries the deadline and can be aborted from
        outside. `usage` is there where the provider reports it. Raises the errors of
        `models.errors` that stand for what the provider said: `InvalidRequest` and its kin for
        what the caller can mend, `ProviderFailed`, `ProviderRefusedUs`, `ModelGone`,
        `ProviderBusy`, `ProviderTimeout`, or whatever `call` was aborted with.
        """

    @abstractmethod
    def stream(
        self, request: ChatRequest, route: Route, max_tokens: int | None, key: str, call: Call
    ) -> Generator[dict[str, Any], None, None]:
        """Ask for an answer in pieces and yield OpenAI's `chat.completion.chunk` objects.

        Takes what `complete` takes and raises what `complete` raises, at any point; nothing is
        asked before the first chunk is asked for. Each chunk has the same `id`, `object` and
        `created`, the provider's `model`, its `system_fingerprint` and `service_tier` where it
        says them, and `choices`, each with `index`, `delta`, `logprobs` and `finish_reason`:

        - the first delta of a choice has its role, no other has, and those that say nothing are
          left out;
        - when all is said, one chunk for each choice has its finish reason and an empty delta;
        - where the provider reports it, the last chunk has `usage`, and no choices.

        An end without an error is the end of a whole answer. Closed before its end, the generator
        closes the connection at once, which is how providers are told to stop.
        """
