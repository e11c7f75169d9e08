"""What every provider that speaks OpenAI's protocol is sent, and what it refuses."""

from typing import Any

import pytest

from models.chat import ChatRequest
from models.chat_parameters import OWN_PARAMETERS
from models.errors import UnsupportedParameter
from providers.base import Provider
from tests.providers.contract.everyone import ask, every_speaker
from tests.providers.requests_and_routes import HELLO, chat, route
from tests.upstream import Upstream


@every_speaker
def test_our_own_parameters_never_go_upstream(provider: Provider, upstream: Upstream) -> None:
    own = {
        "provider": provider.name,
        "background": True,
        "fallbacks": ["b"],
        "webhook_url": "https://example.com",
        "on_disconnect": "finish",
        "key": "secret",
    }
    assert own.keys() == OWN_PARAMETERS

    ask(provider, ChatRequest(HELLO | own | {"stream": True, "stream_options": {}}))

    sent = upstream.calls()[0]["body"]
    assert sent.keys().isdisjoint(OWN_PARAMETERS | {"stream", "stream_options"})


@every_speaker
def test_a_parameter_nobody_knows_goes_as_it_came(provider: Provider, upstream: Upstream) -> None:
    ask(provider, chat(brand_new={"a": [1, None]}))

    assert upstream.calls()[0]["body"]["brand_new"] == {"a": [1, None]}


@every_speaker
def test_the_model_is_the_routes(provider: Provider, upstream: Upstream) -> None:
    ask(provider, way=route(provider.name, model="vendor/model"))

    assert upstream.calls()[0]["body"]["model"] == "vendor/model"


@every_speaker
def test_what_the_route_adds_gives_way_to_the_caller(
    provider: Provider, upstream: Upstream
) -> None:
    way = route(provider.name, verbosity="low", top_k=5)

    ask(provider, chat(verbosity="high"), way=way)

    sent = upstream.calls()[0]["body"]
    assert (sent["verbosity"], sent["top_k"]) == ("high", 5)


@every_speaker
def test_the_limit_to_send_overrides_the_callers(provider: Provider, upstream: Upstream) -> None:
    ask(provider, chat(max_completion_tokens=900), max_tokens=300)

    sent = upstream.calls()[0]["body"]
    assert sent["max_tokens"] == 300
    assert "max_completion_tokens" not in sent


@every_speaker
def test_without_a_limit_none_is_sent(provider: Provider, upstream: Upstream) -> None:
    ask(provider)

    assert upstream.calls()[0]["body"].keys().isdisjoint({"max_tokens", "max_completion_tokens"})


@every_speaker
def test_the_temperature_is_ours_where_the_caller_gave_none(
    provider: Provider, upstream: Upstream
) -> None:
    ask(provider)
    ask(provider, chat(temperature=0))
    ask(provider, way=route(provider.name, frozenset({"tools"}), reasoning=True))

    sent = [call["body"].get("temperature") for call in upstream.calls()]
    assert sent == [0.7, 0, None]


#: Parameters that a model may lack.
OPTIONAL: dict[str, Any] = {
    "temperature": 0.2,
    "top_p": 0.5,
    "presence_penalty": 1,
    "frequency_penalty": -1,
    "logit_bias": {"50256": -100},
    "logprobs": True,
    "stop": "END",
    "seed": 1,
    "n": 2,
    "tools": [{"type": "function", "function": {"name": "f"}}],
    "functions": [{"name": "f"}],
    "reasoning_effort": "high",
    "response_format": {"type": "json_object"},
}


@every_speaker
def test_what_a_model_lacks_is_refused_by_name(
    provider: Provider, subtests: pytest.Subtests
) -> None:
    lacking = route(provider.name, frozenset({"x"}))

    for parameter, value in OPTIONAL.items():
        with subtests.test(parameter):
            with pytest.raises(UnsupportedParameter) as refused:
                provider.check(chat(**{parameter: value}), lacking)

            assert refused.value.param == parameter
            assert parameter in refused.value.message


@every_speaker
@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
        {"type": "input_audio", "input_audio": {"data": "", "format": "wav"}},
        {"type": "file", "file": {"file_data": ""}},
    ],
    ids=lambda part: part["type"],
)
def test_a_part_that_a_model_cannot_take_is_refused_by_place(
    provider: Provider, part: dict[str, Any]
) -> None:
    text = {"type": "text", "text": "What is it?"}
    request = chat(
        messages=[
            {"role": "system", "content": "Look."},
            {"role": "user", "content": [text, part]},
        ]
    )

    with pytest.raises(UnsupportedParameter) as refused:
        provider.check(request, route(provider.name, frozenset({"x"})))

    assert refused.value.param == "messages[1].content[1]"


@every_speaker
def test_a_successor_without_a_temperature_takes_one_all_the_same(
    provider: Provider, upstream: Upstream
) -> None:
    """An alias was documented with a temperature; the model in its place has none."""
    way = route(provider.name, frozenset({"x"}), reasoning=True, reasoning_effort="none")
    request = chat(temperature=0.2, max_tokens=20)

    provider.check(request, way)
    ask(provider, request, way=way)

    assert "temperature" not in upstream.calls()[0]["body"]
