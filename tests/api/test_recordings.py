"""What the vendors really said goes through the whole product and comes out the same."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from config.catalog.load import catalog
from models.chat import ChatRequest
from models.errors import InvalidRequest, ModelGone, ModelNotFound
from tests.conftest import ON_POSTGRESQL, ON_SQLITE, Server
from tests.events import Stream, stream, value
from tests.providers.recorded_chats import (
    REFUSALS,
    Case,
    asked_in,
    broken_off,
    cases,
    events,
    is_answer,
    is_chat,
    said_in,
    same_message,
    streamed_cases,
    told,
)
from tests.recordings import Recording
from tests.stack import Account, Reply, fetch
from tests.upstream import Upstream

#: A model of each provider that takes what most recordings ask for.
MODELS = {
    "openai": "gpt-4.1",
    "gemini": "gemini-3.8-flash",
    "deepseek": "deepseek-chat",
    "openrouter": "anthropic/claude-haiku-4.5",
}
#: A model that a key was busy for is not asked again with it for a while, so these have their own.
BUSY = {
    "gemini/error-429-gemini-2.5-flash-01": "gemini-3.7-flash",
    "gemini/error-429-retry-info-01": "gemini-3.6-flash",
    "gemini/sample-error-429-quota-01": "gemini-3.1-flash-lite",
}
HELLO = {"messages": [{"role": "user", "content": "Hello"}]}

Check = Callable[[Case, Server, Upstream], None]


def replay(case: Case, server: Server, upstream: Upstream) -> tuple[Reply, tuple[int, int]]:
    """Send a recorded request, let the upstream answer as recorded; the reply and what is left."""
    recording, exchange = case
    upstream.play_always(exchange)
    account = server.stack.account(credits=100_000)
    body = _request(exchange) | {"model": model_of(recording), "provider": recording.provider}
    reply = fetch(f"{server.api}/chat/completions", body, key=account.key)
    return reply, account.standing()


def model_of(recording: Recording) -> str:
    """Return the recorded model where the catalogue has it; else one that takes as much."""
    if str(recording) in BUSY:
        return BUSY[str(recording)]
    if "audio" in recording.model:
        return "gpt-audio-mini"
    model = catalog.models.get(recording.model)
    if model and recording.provider in {route.provider for route in model.routes}:
        return model.id
    return MODELS[recording.provider]


def _request(exchange: dict[str, Any]) -> dict[str, Any]:
    """Return the conversation and the tools that were recorded, where our checks take them.

    What the vendor refused may be refused by us before it gets there: then it is a Hello.
    """
    recorded = asked_in(exchange) or HELLO
    if not (is_chat(exchange, streamed=True) or is_answer(exchange)):
        return HELLO
    kept = {name: recorded[name] for name in ("messages", "tools", "functions") if name in recorded}
    try:
        ChatRequest.read(kept | {"model": "any"})
    except InvalidRequest:
        return HELLO
    return kept


def an_answer_comes_out(case: Case, server: Server, upstream: Upstream) -> None:
    said = said_in(case.exchange)

    (status, headers, body), (balance, held) = replay(case, server, upstream)

    assert status == 200, body
    answer = json.loads(body)
    assert answer["model"] == model_of(case.recording)
    assert headers["x-provider"] == case.recording.provider
    for choice, original in zip(answer["choices"], said["choices"], strict=True):
        assert choice["finish_reason"] == original.get("finish_reason")
        same_message(choice["message"], original["message"])
    usage = said["usage"]
    for field in ("prompt_tokens", "completion_tokens", "total_tokens"):
        assert answer["usage"][field] == usage[field]
    cost = max(1, -(-(usage["prompt_tokens"] + 3 * usage["completion_tokens"]) // 1000))
    assert answer["credits_consumed"] == cost
    assert (balance, held) == (100_000 - cost, 0)


def a_refusal_comes_out(case: Case, server: Server, upstream: Upstream) -> None:
    expected = REFUSALS[str(case.recording)]
    if expected is ModelGone and model_of(case.recording) not in catalog.models:
        # The caller named a model that only the vendor could know.
        expected = ModelNotFound

    (status, headers, body), standing = replay(case, server, upstream)

    error = json.loads(body)["error"]
    assert (status, error["type"], error["code"]) == (
        expected.status,
        expected.type,
        expected.code,
    )
    assert headers["x-should-retry"] == ("true" if expected.retryable else "false")
    assert standing == (100_000, 0)


# ---- Streams


def begin(case: Case, server: Server, upstream: Upstream) -> tuple[Stream, Account]:
    recording, exchange = case
    upstream.play_always(exchange)
    account = server.stack.account(credits=100_000)
    wanted = {"model": model_of(recording), "provider": recording.provider}
    streaming = {"stream": True, "stream_options": {"include_usage": True}}
    return stream(server.url, account.key, _request(exchange) | wanted | streaming), account


def a_stream_comes_out(case: Case, server: Server, upstream: Upstream) -> None:
    original = events(case.exchange)
    counted = [event["usage"] for event in original if event.get("usage")]

    answer, account = begin(case, server, upstream)
    *chunks, last, done = map(value, answer.events())

    assert done == "[DONE]"
    assert told(chunks) == told(original)
    assert {chunk["model"] for chunk in [*chunks, last]} == {model_of(case.recording)}
    assert last["choices"] == []
    usage = last["usage"]
    if counted:
        for field in ("prompt_tokens", "completion_tokens", "total_tokens"):
            assert usage[field] == counted[-1][field]
    cost = max(1, -(-(usage["prompt_tokens"] + 3 * usage["completion_tokens"]) // 1000))
    assert last["credits_consumed"] == cost
    assert account.standing() == (100_000 - cost, 0)


def a_refused_stream_comes_out(case: Case, server: Server, upstream: Upstream) -> None:
    expected = REFUSALS[str(case.recording)]

    answer, account = begin(case, server, upstream)

    assert answer.status == expected.status
    assert answer.body()["error"]["code"] == expected.code
    assert account.standing() == (100_000, 0)


def a_broken_stream_comes_out(case: Case, server: Server, upstream: Upstream) -> None:
    answer, account = begin(case, server, upstream)
    *chunks, last = map(value, answer.events())

    assert answer.status == 200
    assert chunks
    assert last["error"]["code"] == "provider_error"
    assert account.standing() == (100_000, 0)


# ---- All of them, and a sample


def all_come_out(
    check: Check, found: list[Case], server: Server, upstream: Upstream, subtests: pytest.Subtests
) -> None:
    for case in found:
        with subtests.test(str(case)):
            server.forget(upstream)
            check(case, server, upstream)


@ON_SQLITE
def test_an_answer_comes_out_as_the_vendor_gave_it(
    server: Server, upstream: Upstream, subtests: pytest.Subtests
) -> None:
    all_come_out(an_answer_comes_out, cases(answered=True), server, upstream, subtests)


@ON_SQLITE
def test_a_refusal_comes_out_as_the_contracts_and_is_free(
    server: Server, upstream: Upstream, subtests: pytest.Subtests
) -> None:
    all_come_out(a_refusal_comes_out, cases(answered=False), server, upstream, subtests)


@ON_SQLITE
def test_a_stream_comes_out_as_the_vendor_gave_it(
    server: Server, upstream: Upstream, subtests: pytest.Subtests
) -> None:
    all_come_out(a_stream_comes_out, streamed_cases(), server, upstream, subtests)


@ON_SQLITE
def test_a_refused_stream_is_a_status_and_free(
    server: Server, upstream: Upstream, subtests: pytest.Subtests
) -> None:
    found = streamed_cases(answered=False)
    all_come_out(a_refused_stream_comes_out, found, server, upstream, subtests)


@ON_SQLITE
def test_an_error_in_mid_stream_ends_the_stream_and_is_free(
    server: Server, upstream: Upstream, subtests: pytest.Subtests
) -> None:
    all_come_out(a_broken_stream_comes_out, broken_off(), server, upstream, subtests)


@ON_POSTGRESQL
def test_a_sample_comes_out_the_same_on_postgresql(
    server: Server, upstream: Upstream, subtests: pytest.Subtests
) -> None:
    """What the vendors said does not depend on the database; what it cost is written there."""
    samples: list[tuple[Check, list[Case]]] = [
        (an_answer_comes_out, cases(answered=True)[::20]),
        (a_refusal_comes_out, cases(answered=False)[::10]),
        (a_stream_comes_out, streamed_cases()[::10]),
        (a_refused_stream_comes_out, streamed_cases(answered=False)[::2]),
        (a_broken_stream_comes_out, broken_off()[:1]),
    ]

    for check, sample in samples:
        all_come_out(check, sample, server, upstream, subtests)
