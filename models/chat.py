"""A chat request, and the tokens that its answer used."""

from dataclasses import dataclass, replace
from typing import Any, Self

from models import chat_parameters


@dataclass(frozen=True)
class Usage:
    """The tokens of one call, as the provider counted them, else as we did (`estimated`)."""

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
    """A chat request with a validated `body`: the caller's JSON as it was sent."""

    body: dict[str, Any]

    @classmethod
    def read(cls, body: Any) -> Self:
        """Return the request in `body`, decoded JSON; raise the most precise `InvalidRequest`."""
        chat_parameters.check(body)
        return cls.from_validated(body)

    @classmethod
    def from_validated(cls, body: dict[str, Any]) -> Self:
        """Return the request in a `body` that `read` accepted before, without checking it again.

        Parameters that are null are left out, and `top_logprobs` without `logprobs`.
        """
        parameters = {name: value for name, value in body.items() if value is not None}
        if not parameters.get("logprobs"):
            parameters.pop("top_logprobs", None)
        return cls(parameters)

    @property
    def model(self) -> str:
        return str(self.body["model"])

    @property
    def fallbacks(self) -> list[str]:
        """The models to try, in order, if the requested one gives no answer."""
        return list(dict.fromkeys(self.body.get("fallbacks") or ()))

    def for_fallback(self, model: str) -> Self:
        """Return the same request for another model, without the caller's choice of provider."""
        body = {name: value for name, value in self.body.items() if name != "provider"}
        return replace(self, body=body | {"model": model})

    #: The kind of job that it becomes.
    kind = "chat"

    @property
    def messages(self) -> list[dict[str, Any]]:
        return list(self.body["messages"])

    @property
    def provider(self) -> str | None:
        """The provider that the caller named; None if any will do."""
        named = self.body.get("provider")
        return named if isinstance(named, str) else None

    @property
    def routing_preference(self) -> dict[str, Any] | None:
        """The caller's `provider` object, which only OpenRouter supports."""
        named = self.body.get("provider")
        return named if isinstance(named, dict) else None

    @property
    def max_tokens(self) -> int | None:
        """The maximum of output tokens of one choice, by either name of the parameter."""
        return self.body.get("max_tokens") or self.body.get("max_completion_tokens")

    @property
    def choices(self) -> int:
        return int(self.body.get("n", 1))

    @property
    def stream(self) -> bool:
        return bool(self.body.get("stream", False))

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with a chunk of the usage."""
        return bool((self.body.get("stream_options") or {}).get("include_usage"))

    @property
    def cancels_on_disconnect(self) -> bool:
        """Whether the job is cancelled when its client disconnects: by default, if it streams."""
        policy = self.body.get("on_disconnect") or ("cancel" if self.stream else "finish")
        return bool(policy == "cancel")
