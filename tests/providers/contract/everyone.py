"""Every provider that chats, and both ways to ask it."""

import json
from typing import Any

import pytest

from config.providers import SANDBOX
from models.chat import ChatRequest
from models.errors import LikeDoError
from net.call import Call
from providers import by_name
from providers.base import Provider
from providers.openai_compatible import OpenAICompatible
from tests.providers.requests_and_routes import chat, route
from tests.upstream import Upstream, gemini_said, said

EVERYONE = [pytest.param(provider, id=name) for name, provider in by_name.items()]
#: Those that call a server.
REMOTE = [pytest.param(provider, id=name) for name, provider in by_name.items() if name != SANDBOX]
#: Those whose server speaks OpenAI's protocol.
SPEAKERS = [p for p in REMOTE if isinstance(p.values[0], OpenAICompatible)]

KEY = "sk-proj-0123456789abcdefABCDEF"

every_provider = pytest.mark.parametrize("provider", EVERYONE)
every_remote_provider = pytest.mark.parametrize("provider", REMOTE)
every_speaker = pytest.mark.parametrize("provider", SPEAKERS)


def asked(provider: Provider, request: ChatRequest | None = None, **options: Any) -> Any:
    call = options.pop("call", None) or Call(20)
    way = options.pop("way", None) or route(provider.name)
    limit = options.pop("max_tokens", None)
    return request or chat(), way, limit, KEY, call


def ask(provider: Provider, request: ChatRequest | None = None, **options: Any) -> dict[str, Any]:
    return provider.complete(*asked(provider, request, **options))


def stream(
    provider: Provider, request: ChatRequest | None = None, **options: Any
) -> list[dict[str, Any]]:
    return list(provider.stream(*asked(provider, request, **options)))


def said_by(provider: Provider, text: str, *, at_the_end: bool = False) -> str:
    """Return an event with a `text`, in the words of the provider's server."""
    if provider.name == "gemini":
        return json.dumps(gemini_said(text, "STOP" if at_the_end else None))
    return said("stop" if at_the_end else None, content=text)


#: Both ways to ask, where the same holds for both.
both_ways = pytest.mark.parametrize("way_to_ask", [ask, stream])


def refusal(
    provider: Provider, upstream: Upstream, step: dict[str, Any], way_to_ask: Any = ask
) -> LikeDoError:
    upstream.script(default=step)
    with pytest.raises(LikeDoError) as raised:
        way_to_ask(provider)
    return raised.value
