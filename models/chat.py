"""A chat request, and what an answer used."""

from dataclasses import dataclass, replace
from typing import Any, Self

from models import chat_parameters


@dataclass(frozen=True)
class Usage:
    """Tokens of one call, as the provider counted them or, where it did not, as we did."""

    prompt_tokens: int
    completion_tokens: int
    estimated: bool = False

    def as_json(self) -> dict[str, int]:
        """Return the tokens as OpenAI shows them."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
        }


@dataclass(frozen=True)
class ChatRequest:
    """A chat request whose `body` has been checked: the caller's JSON, as it came."""

    body: dict[str, Any]

    @classmethod
    def read(cls, body: Any) -> Self:
        """Return the request in `body`, decoded JSON; raise the most precise `InvalidRequest`."""
        chat_parameters.check(body)
        return cls.checked(body)

    @classmethod
    def checked(cls, body: dict[str, Any]) -> Self:
        """Return the request in a `body` that `read` has taken before, and is not to check again.

        What says nothing is left out: null, and how many logprobs are wanted where none are.
        """
        said = {name: value for name, value in body.items() if value is not None}
        if not said.get("logprobs"):
            said.pop("top_logprobs", None)
        return cls(said)

    @property
    def model(self) -> str:
        return str(self.body["model"])

    @property
    def fallbacks(self) -> list[str]:
        """The models to ask, in order, where the one that was asked for gives no answer."""
        return list(dict.fromkeys(self.body.get("fallbacks") or ()))

    def for_fallback(self, model: str) -> Self:
        """Return the same request to another model, whose providers the caller did not name."""
        body = {name: value for name, value in self.body.items() if name != "provider"}
        return replace(self, body=body | {"model": model})

    #: The name of the kind of job that it becomes.
    kind = "chat"

    @property
    def messages(self) -> list[dict[str, Any]]:
        return list(self.body["messages"])

    @property
    def provider(self) -> str | None:
        """The provider the caller insists on."""
        named = self.body.get("provider")
        return named if isinstance(named, str) else None

    @property
    def routing_preference(self) -> dict[str, Any] | None:
        """OpenRouter's own `provider` object, which only OpenRouter understands."""
        named = self.body.get("provider")
        return named if isinstance(named, dict) else None

    @property
    def max_tokens(self) -> int | None:
        """The most output tokens of one choice; both names of the parameter mean the same."""
        return self.body.get("max_tokens") or self.body.get("max_completion_tokens")

    @property
    def choices(self) -> int:
        return int(self.body.get("n", 1))

    @property
    def stream(self) -> bool:
        return bool(self.body.get("stream", False))

    @property
    def include_usage(self) -> bool:
        """Whether the caller wants a stream's usage in a chunk of its own."""
        return bool((self.body.get("stream_options") or {}).get("include_usage"))

    @property
    def cancels_on_disconnect(self) -> bool:
        """Whether the call ends when its client goes away, as streams do unless told not to."""
        policy = self.body.get("on_disconnect") or ("cancel" if self.stream else "finish")
        return bool(policy == "cancel")
