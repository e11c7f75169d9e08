"""Requests and routes to ask a provider with."""

from config.catalog.model import Route, Upstream
from models.chat import ChatRequest
from providers.parameters import EVERYTHING

HELLO = {"model": "some-model", "messages": [{"role": "user", "content": "Hello!"}]}


def route(
    provider: str = "openai",
    takes: frozenset[str] = EVERYTHING,
    *,
    model: str = "upstream-model",
    reasoning: bool = False,
    **extra: object,
) -> Route:
    upstream = Upstream(provider=provider, id=model, reasoning=reasoning)
    # A copy is not checked: tests have words of their own.
    return Route(upstream=upstream.model_copy(update={"takes": takes}), extra=extra)


def chat(**parameters: object) -> ChatRequest:
    """Return a checked request that says hello, with `parameters` beside."""
    return ChatRequest.read(HELLO | parameters)
