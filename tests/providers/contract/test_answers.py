"""What holds for every provider's answer, whoever it is; a new one is covered by its line."""

import copy
from typing import Any

import pytest

from models.errors import JobCancelled, ProviderTimeout
from net.call import Call
from providers.base import Provider
from tests.providers.contract.everyone import ask, both_ways, every_provider
from tests.providers.requests_and_routes import chat, route
from tests.upstream import Upstream


@every_provider
def test_an_answer_is_openais_object(provider: Provider, upstream: Upstream) -> None:
    answer = ask(provider)

    assert answer["object"] == "chat.completion"
    assert answer["id"]
    assert isinstance(answer["created"], int)
    (choice,) = answer["choices"]
    assert (choice["index"], choice["finish_reason"]) == (0, "stop")
    assert choice["message"]["role"] == "assistant"
    assert choice["message"]["content"]
    usage = answer["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


@both_ways
@every_provider
def test_a_request_stays_as_it_was(provider: Provider, upstream: Upstream, way_to_ask: Any) -> None:
    request = chat(
        messages=[
            {"role": "developer", "content": [{"type": "text", "text": "Be brief."}]},
            {"role": "user", "content": "Hello!"},
        ],
        stop=["x"],
        background=True,
        response_format={"type": "json_object"},
    )
    before = copy.deepcopy(request)

    way_to_ask(provider, request)

    assert request == before


@every_provider
def test_what_asks_for_nothing_is_never_refused(provider: Provider) -> None:
    request = chat(
        temperature=0.7,
        top_p=1,
        n=1,
        presence_penalty=0,
        frequency_penalty=0.0,
        logit_bias={},
        logprobs=False,
        tool_choice="auto",
        parallel_tool_calls=True,
        response_format={"type": "text"},
        user="someone",
        metadata={"a": "b"},
        store=False,
        service_tier="auto",
        max_tokens=5,
        background=True,
        fallbacks=["another"],
        on_disconnect="finish",
    )

    provider.check(request, route(provider.name, frozenset({"none-of-these"}), reasoning=True))


@every_provider
def test_openais_default_temperature_is_never_refused(provider: Provider) -> None:
    provider.check(chat(temperature=1), route(provider.name, frozenset({"tools"})))


@both_ways
@every_provider
def test_an_aborted_call_raises_its_reason(
    provider: Provider, upstream: Upstream, way_to_ask: Any
) -> None:
    reason = JobCancelled("The job was cancelled.")
    call = Call(20)
    call.abort(reason)

    with pytest.raises(JobCancelled) as raised:
        way_to_ask(provider, call=call)

    assert raised.value is reason


@both_ways
@every_provider
def test_a_call_past_its_deadline_times_out(
    provider: Provider, upstream: Upstream, way_to_ask: Any
) -> None:
    with pytest.raises(ProviderTimeout):
        way_to_ask(provider, call=Call(0))
