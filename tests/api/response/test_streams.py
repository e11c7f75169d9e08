"""Streamed chats through the whole product, as bytes and to the official SDKs."""

import asyncio
import json
import re

import openai
import pytest
import redis

from tests.api.response.streamed import USAGE, client, ended, job
from tests.callers import HELLO
from tests.conftest import ONE_DATABASE, Server
from tests.events import STREAMED, stream, text_of, value
from tests.stack import Account, Stack, fetch, wait_until
from tests.upstream import Upstream, chunk, said

# ---- Bytes


def test_a_stream_is_openais_chunks_and_its_last_one_says_what_it_cost(
    server: Server, account: Account
) -> None:
    answer = stream(server.url, account.key)
    events = answer.events()

    assert answer.status == 200
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["x-accel-buffering"] == "no"
    assert answer.headers["transfer-encoding"] == "chunked"
    assert answer.headers["x-provider"] == "openai"
    assert answer.headers["x-ratelimit-limit-requests"] == "2000"
    assert all(event.startswith(b"data: ") for event in events)
    assert events[-1] == b"data: [DONE]\n\n"
    *chunks, last = [value(event) for event in events[:-1]]
    assert {c["object"] for c in [*chunks, last]} == {"chat.completion.chunk"}
    assert {c["model"] for c in [*chunks, last]} == {"gpt-4"}
    assert {c["id"] for c in [*chunks, last]} == {"chatcmpl-upstream"}
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert [c["choices"][0]["finish_reason"] for c in chunks] == [None] * len(chunks)
    assert last["choices"] == [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}]
    assert last["credits_consumed"] == 1
    assert not any("credits_consumed" in c or "usage" in c for c in chunks)
    assert text_of(events) == "Hello from upstream."
    assert answer.comments == []


def test_the_usage_comes_in_a_chunk_of_its_own_where_it_was_asked_for(
    server: Server, account: Account
) -> None:
    *chunks, last, done = stream(server.url, account.key, USAGE).events()

    assert value(done) == "[DONE]"
    assert value(last)["choices"] == []
    usage = value(last)["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (10, 5)
    assert value(last)["credits_consumed"] == 1
    assert all(value(event)["usage"] is None for event in chunks)
    assert value(chunks[-1])["choices"][0]["finish_reason"] == "stop"


def test_the_provider_is_asked_for_the_usage_whatever_the_caller_wants(
    server: Server, account: Account, upstream: Upstream
) -> None:
    stream(server.url, account.key).events()

    body = upstream.calls()[0]["body"]
    assert (body["stream"], body["stream_options"]) == (True, {"include_usage": True})


def test_the_charge_is_in_the_ledger_before_the_last_chunk_goes_out(
    server: Server, account: Account
) -> None:
    answer = stream(server.url, account.key)
    events = answer.events(most=5)

    assert value(events[-1])["credits_consumed"] == 1
    assert account.standing() == (9999, 0)
    assert account.entries() == [("grant", 10_000), ("charge", -1)]
    answer.close()


def test_a_failure_before_the_first_chunk_is_a_status(
    server: Server, account: Account, upstream: Upstream
) -> None:
    upstream.script(default={"status": 500, "json": {"error": {"message": "Broken."}}})

    answer = stream(server.url, account.key)

    assert answer.status == 502
    assert answer.headers["content-type"] == "application/json"
    assert answer.body()["error"]["code"] == "provider_error"
    assert account.standing() == (10_000, 0)


@pytest.mark.parametrize(
    ("events", "code"),
    [
        ([said(role="assistant", content="Hel"), said(content="lo")], "provider_error"),
        (
            [
                said(role="assistant", content="Hello"),
                json.dumps({"error": {"message": "Overloaded.", "type": "server_error"}}),
                chunk(usage={"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}),
                "[DONE]",
            ],
            "provider_error",
        ),
    ],
    ids=["cut off", "an error event"],
)
def test_a_failure_after_the_first_chunk_is_an_error_event_and_costs_nothing(
    server: Server, account: Account, upstream: Upstream, events: list[str], code: str
) -> None:
    upstream.script({"events": events})

    answer = stream(server.url, account.key)
    *chunks, last = answer.events()

    assert answer.status == 200
    assert text_of(chunks) == "Hello"
    assert value(last)["error"]["code"] == code
    assert not any(b"[DONE]" in event for event in [*chunks, last])
    assert account.standing() == (10_000, 0)
    assert ended(server, account, answer.job_id)["status"] == "failed"


def test_an_answer_nobody_counted_shows_the_tokens_it_was_charged_for(
    server: Server, account: Account, upstream: Upstream
) -> None:
    uncounted = [said(role="assistant", content="Hello"), said("stop"), "[DONE]"]
    upstream.script({"events": uncounted})

    *_, last, done = map(value, stream(server.url, account.key, USAGE).events())

    assert done == "[DONE]"
    assert last["usage"]["completion_tokens"] == 1
    assert last["usage"]["prompt_tokens"] > 0
    assert last["credits_consumed"] == 1


def test_what_a_stream_said_is_its_jobs_result(server: Server, account: Account) -> None:
    answer = stream(server.url, account.key, USAGE)
    answer.events()

    found = job(server, account, answer.job_id)
    result = found["result"]
    assert found["status"] == "completed"
    assert result["object"] == "chat.completion"
    assert result["choices"][0]["message"]["content"] == "Hello from upstream."
    assert (result["usage"]["total_tokens"], result["credits_consumed"]) == (15, 1)


def test_the_stream_options_are_checked(server: Server, account: Account) -> None:
    body = HELLO | {"stream": True, "stream_options": {"include_usage": "yes"}}

    answer = stream(server.url, account.key, body)

    assert answer.status == 400
    assert answer.body()["error"]["param"] == "stream_options.include_usage"


@ONE_DATABASE
def test_a_silent_stream_shows_signs_of_life(fresh_stack: Stack, upstream: Upstream) -> None:
    """Also while it waits for a worker: then it says where it stands."""
    web = fresh_stack.web(stream_commit_seconds=0.2)
    account = fresh_stack.account()
    answers = [stream(web, account.key) for _ in range(2)]
    fresh_stack.worker()

    events = [answer.events() for answer in answers]

    assert [text_of(found) for found in events] == ["Hello from upstream."] * 2
    assert [answer.comments[0] for answer in answers] == [
        ": queued position=1\n",
        ": queued position=2\n",
    ]


@ONE_DATABASE
def test_a_waiting_stream_says_how_long_it_will_wait(
    fresh_stack: Stack, upstream: Upstream
) -> None:
    web = fresh_stack.web(stream_commit_seconds=0.2)
    account = fresh_stack.account()
    worker = fresh_stack.worker()
    stream(web, account.key).events()
    with redis.Redis(port=fresh_stack.valkey.port) as connection:
        wait_until(lambda: connection.keys("likedo:pace:*"), "the pace is known")
    worker.stop()

    answer = stream(web, account.key)
    asked = json.loads(fetch(f"{web}/v1/jobs/{answer.job_id}", key=account.key)[2])
    fresh_stack.worker()
    events = answer.events()

    assert text_of(events) == "Hello from upstream."
    assert asked["queue_position"] == 1
    assert asked["estimated_wait_seconds"] >= 0
    first, second, *_ = answer.comments
    assert first == ": queued position=1\n"
    assert re.fullmatch(r": estimated_wait_seconds=\d+\n", second)


@ONE_DATABASE
def test_a_failure_after_the_headers_went_is_an_error_event(
    fresh_stack: Stack, upstream: Upstream
) -> None:
    upstream.script(
        default={"delay": 0.3, "status": 500, "json": {"error": {"message": "Broken."}}}
    )
    web = fresh_stack.web(stream_commit_seconds=0.2)
    fresh_stack.worker()
    account = fresh_stack.account()

    answer = stream(web, account.key)
    events = answer.events()

    assert answer.status == 200
    assert [value(event)["error"]["code"] for event in events] == ["provider_error"]
    assert len(answer.comments) == 1
    assert account.standing() == (1000, 0)


# ---- SDKs


def test_the_sdk_reads_a_stream(server: Server, account: Account) -> None:
    with client(server, account) as sdk:
        chunks = list(sdk.chat.completions.create(**USAGE))

    said = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert said == "Hello from upstream."
    assert chunks[-1].usage.total_tokens == 15
    assert chunks[-1].credits_consumed == 1


def test_the_sdks_stream_helper_assembles_the_completion(server: Server, account: Account) -> None:
    with client(server, account) as sdk, sdk.chat.completions.stream(**HELLO) as events:
        completion = events.get_final_completion()

    assert completion.choices[0].message.content == "Hello from upstream."
    assert completion.choices[0].finish_reason == "stop"


def test_the_async_sdk_reads_many_streams_side_by_side(server: Server, account: Account) -> None:
    async def read() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key=account.key) as sdk:

            async def one() -> str:
                answer = await sdk.chat.completions.create(**STREAMED)
                return "".join([c.choices[0].delta.content or "" async for c in answer])

            return await asyncio.gather(*(one() for _ in range(20)))

    assert asyncio.run(read()) == ["Hello from upstream."] * 20


def test_the_sdk_raises_what_a_stream_fails_with(
    server: Server, account: Account, upstream: Upstream
) -> None:
    refusal = {"error": {"message": "Bad.", "type": "invalid_request_error", "param": "messages"}}
    upstream.script(
        {"status": 400, "json": refusal},
        {"events": [said(role="assistant", content="Hel")]},
    )

    with client(server, account, max_retries=0) as sdk:
        with pytest.raises(openai.BadRequestError) as refused:
            sdk.chat.completions.create(**STREAMED)
        with pytest.raises(openai.APIError) as broken:
            list(sdk.chat.completions.create(**STREAMED))

    assert refused.value.code == "invalid_parameter"
    assert broken.value.code == "provider_error"
