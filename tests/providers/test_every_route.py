"""The documentation's example requests, on every route of the catalogue, over real HTTP.

A route is covered by its line in the catalogue; a server stands in for all the vendors.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest

from config.catalog.load import catalog
from config.catalog.model import Route
from models.chat import ChatRequest
from models.chat_parameters import OWN_PARAMETERS
from net.call import Call
from providers import by_name
from providers.openai_compatible import OpenAICompatible
from providers.wire.chunks import Assembly
from tests.config.catalog.test_model import DOCUMENTED
from tests.upstream import Upstream

HELLO = {"role": "user", "content": "What is the capital of France?"}
SYSTEM = {"role": "system", "content": "You are a helpful assistant."}

#: What stands in the documentation, beside the model.
EXAMPLES: dict[str, dict[str, Any]] = {
    "plain": {"messages": [HELLO]},
    "limited": {"messages": [HELLO], "temperature": 0.7, "max_tokens": 100},
    "instructed": {"messages": [SYSTEM, HELLO], "temperature": 0.7, "max_tokens": 500},
    "streamed": {"messages": [HELLO], "stream": True},
    "all of it": {
        "messages": [SYSTEM, HELLO],
        "temperature": 0.7,
        "max_tokens": 100,
        "stream": True,
    },
    "with what is ours": {
        "messages": [HELLO],
        "background": False,
        "fallbacks": ["gpt-4"],
        "on_disconnect": "finish",
    },
}

#: Ids that stand for all those that only OpenRouter knows.
UNLISTED = ("anthropic/claude-sonnet-4.6", "meta-llama/llama-3.2-3b-instruct:free")


def routes() -> Iterator[tuple[str, str, Route]]:
    """Yield every route of a model that chats once: its name, an id it is reached by, itself."""
    seen = set()
    for model in [*catalog.models.values(), *map(catalog.find, UNLISTED)]:
        assert model is not None
        for route in model.routes if model.kind == "chat" else ():
            extra = json.dumps(dict(route.extra), sort_keys=True)
            name = f"{route.provider}:{route.upstream.id}{'' if extra == '{}' else extra}"
            if name not in seen and route.provider != "sandbox":
                seen.add(name)
                yield name, model.id, route


def read(alias: str, example: dict[str, Any]) -> ChatRequest:
    """Return an example as a request that came in for the model `alias`."""
    return ChatRequest.read(orjson.loads(orjson.dumps({"model": alias} | example)))


def ask(request: ChatRequest, route: Route) -> dict[str, Any]:
    """Check `request` and return the whole answer to it, streamed or not."""
    by_name[route.provider].check(request, route)
    asked = (request, route, None, "sk-proj-0123456789", Call(20))
    if not request.stream:
        return by_name[route.provider].complete(*asked)
    assembly = Assembly()
    for chunk in by_name[route.provider].stream(*asked):
        assembly.add(chunk)
    return assembly.completion()


@pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES.keys())
def test_an_example_of_the_documentation_is_answered_on_every_route(
    example: dict[str, Any], upstream: Upstream, subtests: pytest.Subtests
) -> None:
    for name, alias, route in routes():
        with subtests.test(name):
            upstream.reset()

            answer = ask(read(alias, example), route)

            (choice,) = answer["choices"]
            assert choice["message"]["content"]
            assert choice["finish_reason"] == "stop"
            assert answer["usage"]["total_tokens"] > 0
            (call,) = upstream.calls()
            assert call["path"].startswith(f"/{route.provider}/")
            # OpenRouter's `provider` is another one: its routing, with the price bounded.
            theirs = {"provider"} if route.provider == "openrouter" else set()
            assert call["body"].keys().isdisjoint(OWN_PARAMETERS - theirs)
            if isinstance(by_name[route.provider], OpenAICompatible):
                assert_it_is_openais(call["body"], example, route)
                TAKEN.get(route.provider, _by_anybody)(call["body"], route)


@pytest.mark.parametrize("alias", DOCUMENTED)
def test_a_documented_id_takes_any_temperature_on_every_route(
    alias: str, upstream: Upstream
) -> None:
    request = ChatRequest.read({"model": alias, "messages": [HELLO], "temperature": 0.2})

    for route in catalog.models[alias].routes:
        ask(request, route)

    for route, call in zip(catalog.models[alias].routes, upstream.calls(), strict=True):
        told_not_to_reason = route.upstream.reasoning and route.provider == "openai"
        if isinstance(by_name[route.provider], OpenAICompatible):
            assert call["body"].get("temperature") == (None if told_not_to_reason else 0.2)


# ---- What the vendors take


def assert_it_is_openais(sent: dict[str, Any], example: dict[str, Any], route: Route) -> None:
    """Check what every vendor with OpenAI's protocol takes, and that nothing was lost."""
    assert sent["model"] == route.upstream.id
    assert sent["messages"] == example["messages"]
    limits = {"max_tokens", "max_completion_tokens"} & sent.keys()
    assert [sent[name] for name in limits] == [v for k, v in example.items() if k == "max_tokens"]
    streamed = {"stream": True, "stream_options": {"include_usage": True}}
    assert {k: sent[k] for k in streamed if k in sent} == (streamed if "stream" in example else {})
    assert sent.get("temperature", 0.7) == 0.7


#: What any of them may be sent in these examples.
COMMON = {"model", "messages", "temperature", "max_tokens", "stream", "stream_options"}


def _by_openai(sent: dict[str, Any], route: Route) -> None:
    if route.upstream.reasoning:
        assert sent.keys() <= COMMON - {"temperature", "max_tokens"} | {
            "max_completion_tokens",
            "reasoning_effort",
        }
        assert sent.get("reasoning_effort") in (None, "none", "minimal", "low", "medium", "high")
    else:
        assert sent.keys() <= COMMON
        assert "temperature" in sent


def _by_deepseek(sent: dict[str, Any], route: Route) -> None:
    assert sent.keys() <= COMMON | {"thinking"}
    thinks = sent.get("thinking", {"type": "enabled"})["type"] == "enabled"
    # Where it thinks it ignores a temperature, so that one is not to be sent.
    assert ("temperature" in sent) is not thinks


def _by_openrouter(sent: dict[str, Any], route: Route) -> None:
    assert sent.keys() <= COMMON | {"reasoning_effort", "provider"}
    assert (sent.get("provider", {}).keys() == {"max_price"}) is not bool(route.upstream.takes)
    assert sent.get("reasoning_effort") in (None, "none", "minimal", "low", "medium", "high")
    assert "temperature" in sent


def _by_anybody(sent: dict[str, Any], route: Route) -> None:
    assert sent.keys() <= COMMON | {"max_completion_tokens", "reasoning_effort"}


TAKEN: dict[str, Callable[[dict[str, Any], Route], None]] = {
    "openai": _by_openai,
    "deepseek": _by_deepseek,
    "openrouter": _by_openrouter,
}
