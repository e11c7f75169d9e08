"""What a request may be beyond the types of its parameters: its length, numbers and defaults."""

from collections.abc import Sequence
from typing import Any

import gevent
import orjson
import pytest

from models import chat_messages, checks
from models.chat import ChatRequest
from models.errors import InvalidRequest

HELLO = {"model": "some-model", "messages": [{"role": "user", "content": "Hello!"}]}


def refused(body: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as raised:
        ChatRequest.read(body)
    return raised.value


# ---- Many messages


def test_a_wrong_one_of_many_is_named_by_its_place() -> None:
    good = {"role": "user", "content": "Hello!"}
    text, call = (
        {"type": "text", "text": ""},
        {"id": "c", "function": {"name": "f", "arguments": ""}},
    )
    wrong = {
        "messages[19999].role": [good] * 19_999 + [good | {"role": "wizard"}],
        "messages[1].content[70000].type": [good, good | {"content": [text] * 70_000 + [{}]}],
        "messages[0].tool_calls[900].function.arguments": [
            {
                "role": "assistant",
                "content": [text] * 500,
                "tool_calls": [call] * 900 + [call | {"function": {"name": "f"}}],
            }
        ],
        "messages": [good] * 20_001,
    }

    found = {param: refused(HELLO | {"messages": messages}) for param, messages in wrong.items()}

    assert [error.param for error in found.values()] == list(wrong)
    assert "20000" in found["messages"].message
    assert len(ChatRequest.read(HELLO | {"messages": [good] * 20_000}).messages) == 20_000


@pytest.mark.parametrize(
    "many",
    [
        {"messages": [{"role": "user", "content": [{"type": "text"}] * 90_000}]},
        {"messages": [{"role": "user"}] * 20_000},
        {"logit_bias": dict.fromkeys(map(str, range(90_000)), 101)},
        {"metadata": dict.fromkeys(map(str, range(90_000)), 101)},
    ],
    ids=list,
)
def test_validation_stops_at_the_first_errors(
    many: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    translated: list[int] = []
    translate = checks.translate

    def count(problems: Sequence[Any], body: dict[str, Any]) -> InvalidRequest:
        translated.append(len(problems))
        return translate(problems, body)

    monkeypatch.setattr(checks, "translate", count)

    refused(HELLO | many)

    assert translated and translated[0] <= 2 * chat_messages.PORTION


def test_others_have_their_turn_while_many_messages_are_validated() -> None:
    turns: list[int] = []
    watcher = gevent.spawn(lambda: [gevent.sleep(0) or turns.append(1) for _ in range(10_000)])

    ChatRequest.read(HELLO | {"messages": [{"role": "user", "content": "Hello!"}] * 20_000})

    watcher.kill()
    assert len(turns) >= 2


# ---- Numbers


def test_a_number_beyond_64_bits_can_be_written_again() -> None:
    raw = orjson.dumps(HELLO)[:-1] + b', "brand_new": [18446744073709551616, -1%s]}' % (b"0" * 30)

    request = ChatRequest.read(orjson.loads(raw))

    assert orjson.loads(orjson.dumps(request.body))["brand_new"] == [2.0**64, -1e30]


# ---- Defaults


@pytest.mark.parametrize(
    "parameters",
    [
        {"top_logprobs": 0},
        {"top_logprobs": 0, "logprobs": False},
        {"top_logprobs": None},
        {"stream_options": {}},
        {"stream_options": {"include_usage": False}},
        {"stream_options": {"include_usage": None}, "stream": False},
        {"stream_options": {"include_usage": True}, "stream": True},
        {"top_logprobs": 3, "logprobs": True},
    ],
    ids=str,
)
def test_a_parameter_at_its_default_is_not_refused(parameters: dict[str, Any]) -> None:
    ChatRequest.read(HELLO | parameters)


@pytest.mark.parametrize(
    "parameters",
    [
        {"top_logprobs": 1},
        {"top_logprobs": 1, "logprobs": False},
        {"stream_options": {"include_usage": True}},
        {"stream_options": {"include_usage": True}, "stream": False},
        {"stream_options": {"brand_new": True}},
    ],
    ids=str,
)
def test_a_parameter_that_asks_for_something_needs_the_other(parameters: dict[str, Any]) -> None:
    assert refused(HELLO | parameters).param == next(iter(parameters))


def test_what_says_nothing_is_left_out() -> None:
    silent = {"n": None, "top_logprobs": 0, "stop": None}

    assert ChatRequest.read(HELLO | silent).body == HELLO
    assert ChatRequest.from_validated(HELLO | silent) == ChatRequest.read(HELLO)
    assert ChatRequest.from_validated(HELLO | {"logprobs": True, "top_logprobs": 0}).body[
        "logprobs"
    ]
