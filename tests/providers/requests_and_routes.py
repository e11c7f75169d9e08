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
    return Route(Upstream(provider, model, takes=takes, reasoning=reasoning), extra)


def chat(**parameters: object) -> ChatRequest:
    """Return a checked request that says hello, with `parameters` beside."""
    return ChatRequest.read(HELLO | parameters)
