"""What holds for every provider's stream."""

from contextlib import closing
from typing import Any

import pytest

from models.errors import JobCancelled, ProviderFailed
from net.call import Call
from providers.base import Provider
from providers.wire.chunks import Assembly
from tests.providers.contract.everyone import (
    ask,
    asked,
    every_provider,
    every_remote_provider,
    every_speaker,
    refusal,
    said_by,
    stream,
)
from tests.providers.requests_and_routes import chat
from tests.upstream import Upstream, said


@every_provider
def test_a_stream_is_openais_chunks(provider: Provider, upstream: Upstream) -> None:
    *said, finish, usage = stream(provider)

    chunks = [*said, finish, usage]
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in chunks}) == 1
    choices = [choice for chunk in said for choice in chunk["choices"]]
    assert [choice["delta"].get("role") for choice in choices[:2]] == ["assistant", None]
    assert not any(choice["finish_reason"] for choice in choices)
    assert finish["choices"] == [
        {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}
    ]
    assert usage["choices"] == []
    assert usage["usage"]["total_tokens"] > 0


@every_provider
def test_a_stream_says_what_a_whole_answer_does(provider: Provider, upstream: Upstream) -> None:
    assembly = Assembly()

    for chunk in stream(provider):
        assembly.add(chunk)

    streamed, whole = assembly.completion(), ask(provider)
    for answer in (streamed, whole):
        answer["choices"][0]["message"].pop("refusal", None)
        # Gemini does not say when, so it is now, and the clock may have moved on.
        del answer["created"]
    assert streamed == whole


@every_provider
def test_nothing_is_asked_before_the_first_chunk_is(provider: Provider, upstream: Upstream) -> None:
    with closing(provider.stream(*asked(provider))):
        pass

    assert upstream.counts()["received"] == 0


@every_provider
def test_an_abort_between_chunks_ends_a_stream(provider: Provider, upstream: Upstream) -> None:
    upstream.script({"events": [said_by(provider, "Hi"), said_by(provider, "!")], "gap": 60})
    reason, call = JobCancelled("The job was cancelled."), Call(60)
    chunks = provider.stream(*asked(provider, call=call))
    next(chunks)

    call.abort(reason)

    with pytest.raises(JobCancelled) as raised:
        list(chunks)
    assert raised.value is reason


@every_remote_provider
def test_a_stream_that_is_closed_early_is_hung_up_on(
    provider: Provider, upstream: Upstream
) -> None:
    upstream.script({"events": [said_by(provider, "Hi"), said_by(provider, "!")], "gap": 60})

    with closing(provider.stream(*asked(provider))) as chunks:
        next(chunks)

    upstream.wait(aborted=1)


BROKEN_STREAMS: list[tuple[list[str], dict[str, Any]]] = [
    ([], {}),
    (["[DONE]"], {}),
    (["Hi"], {}),
    (["Hi", "[DONE]"], {}),
    (["Hi", "{"], {}),
    (["Hi", "the end"], {"cut": 120}),
    (["Hi", '{"error": {"message": "Sorry."}}', "[DONE]"], {}),
]


@every_remote_provider
def test_a_stream_that_breaks_off_is_a_failure(
    provider: Provider, upstream: Upstream, subtests: pytest.Subtests
) -> None:
    texts = {"Hi": said_by(provider, "Hi"), "the end": said_by(provider, "!", at_the_end=True)}

    for events, more in BROKEN_STREAMS:
        step = {"events": [texts.get(event, event) for event in events]} | more

        with subtests.test(str((events, more))):
            assert type(refusal(provider, upstream, step, stream)) is ProviderFailed


@every_speaker
def test_a_choice_that_broke_off_is_a_failure(provider: Provider, upstream: Upstream) -> None:
    step = {"events": [said("error", content="Hi"), "[DONE]"]}

    assert type(refusal(provider, upstream, step, stream)) is ProviderFailed


@every_remote_provider
def test_a_provider_that_does_not_stream_is_heard_all_the_same(
    provider: Provider, upstream: Upstream
) -> None:
    upstream.script({})

    first, finish, usage = stream(provider)

    assert first["choices"][0]["delta"]["content"] == "Hello from upstream."
    assert finish["choices"][0]["finish_reason"] == "stop"
    assert usage["usage"]["total_tokens"] == 15


@every_speaker
def test_usage_is_asked_for_whatever_the_caller_wishes(
    provider: Provider, upstream: Upstream
) -> None:
    options = {"include_usage": False, "include_obfuscation": True}

    stream(provider, chat(stream=True, stream_options=options))
    stream(provider)

    for call in upstream.calls():
        assert call["body"]["stream"] is True
        assert call["body"]["stream_options"] == {"include_usage": True}
