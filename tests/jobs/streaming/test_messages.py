"""What travels between workers and web processes, and the bytes that clients get of it."""

import openai
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.streaming import messages, sse
from jobs.streaming.messages import Ended, Events, Source
from models.errors import ProviderFailed

TEXTS = st.text().map(lambda text: sse.event({"content": text}))
COMPLETION = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-4",
    "system_fingerprint": "fp_1",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"},
        {"index": 1, "message": {"role": "assistant", "content": "Ho"}, "finish_reason": "length"},
    ],
    "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
    "credits_consumed": 7,
}


def some(events: list[bytes], first: int = 1) -> Events:
    return Events(
        2, first, first + len(events) - 1, Source("openai", "gpt 4.1", 2), b"".join(events)
    )


def value(event: bytes) -> dict[str, object]:
    return dict(orjson.loads(event.removeprefix(b"data: ")))


@given(st.lists(TEXTS, min_size=1), st.integers(1, 1000))
def test_events_arrive_as_they_were_sent(events: list[bytes], first: int) -> None:
    sent = some(events, first)

    assert messages.decode(sent.encode()) == sent


@given(st.lists(TEXTS, min_size=1), st.integers(1, 50), st.integers(0, 100))
def test_what_follows_an_event_is_the_rest(events: list[bytes], first: int, number: int) -> None:
    rest = some(events, first).after(number)

    left = events[max(0, number - first + 1) :]
    if not left:
        assert rest is None
    else:
        assert rest is not None
        assert rest.data == b"".join(left)
        assert (rest.first, rest.last) == (max(first, number + 1), first + len(events) - 1)


@given(st.lists(TEXTS, min_size=1))
def test_an_end_carries_a_streams_last_events(events: list[bytes]) -> None:
    ended = Ended(
        "completed", Source("openai", "gpt-4.1", 1), 1, 99, tail=some(events), whole=some(events)
    )

    decoded = messages.decode(ended.encode())

    assert decoded == Ended("completed", Source("openai", "gpt-4.1", 1), 1, 99, tail=some(events))


def test_an_end_that_is_too_large_does_not_carry_them() -> None:
    ended = Ended("completed", tail=some([sse.event({"content": "x" * 100_000})]))

    assert messages.decode(ended.encode()) == Ended("completed")


def test_an_end_without_an_answer_says_why() -> None:
    failed = Ended("failed", charged=0, error=ProviderFailed("It broke.").as_record())

    assert messages.decode(failed.encode()) == failed


# ---- Bytes


def test_the_last_events_are_each_choices_reason_and_the_end() -> None:
    first, last, done = sse.tail(COMPLETION, include_usage=False)

    assert done == sse.DONE
    assert [value(event)["choices"] for event in (first, last)] == [
        [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}],
        [{"index": 1, "delta": {}, "logprobs": None, "finish_reason": "length"}],
    ]
    assert "credits_consumed" not in value(first)
    assert value(last)["credits_consumed"] == 7
    assert {value(event)["system_fingerprint"] for event in (first, last)} == {"fp_1"}


def test_the_usage_comes_last_where_it_is_wanted() -> None:
    *reasons, usage, _ = sse.tail(COMPLETION, include_usage=True)

    assert [value(event)["usage"] for event in reasons] == [None, None]
    assert value(usage)["usage"] == COMPLETION["usage"]
    assert (value(usage)["choices"], value(usage)["credits_consumed"]) == ([], 7)


@pytest.mark.parametrize("include_usage", [False, True])
def test_every_last_event_is_a_chunk_to_the_sdk(include_usage: bool) -> None:
    *chunks, _ = sse.tail(COMPLETION, include_usage)

    for chunk in chunks:
        openai.types.chat.ChatCompletionChunk.model_validate(value(chunk), strict=True)


@given(st.lists(TEXTS, min_size=1))
def test_a_streams_end_is_known_by_its_last_event(events: list[bytes]) -> None:
    data = b"".join(events)
    failed = sse.error(ProviderFailed("It broke."))

    assert not sse.is_end(data)
    assert not sse.is_end(sse.DONE + data)
    assert sse.is_end(data + sse.DONE)
    assert sse.is_end(data + failed)
    assert sse.is_end(sse.DONE)
    assert sse.is_end(failed)


def test_a_comment_is_one_line() -> None:
    assert sse.comment("keep-alive") == b": keep-alive\n"


def test_numbers_go_before_what_they_number() -> None:
    assert sse.numbered([b"data: 1\n\n", b"data: 2\n\n"], 8) == (
        b"id: 8\ndata: 1\n\nid: 9\ndata: 2\n\n"
    )
