"""What every provider is: a name, a check of what it can honour, and a way to ask it.

A provider holds no state and knows nothing of accounts, credits, queues or the database.
"""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from config.catalog import Route
from models.chat import ChatRequest
from providers.http import Call


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
