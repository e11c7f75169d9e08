"""What a request may be beyond the types of its parameters: its depth, numbers and defaults."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.chat import ChatRequest
from models.checks import MAX_NESTING, nests_deeper
from models.errors import InvalidRequest

HELLO = {"model": "some-model", "messages": [{"role": "user", "content": "Hello!"}]}


def nested(levels: int, inside: Any = None) -> Any:
    """Return so many lists and objects inside each other."""
    value = inside
    for level in range(levels):
        value = {"a": value} if level % 2 else [value]
    return value


def objects(levels: int) -> Any:
    value: Any = {}
    for _ in range(levels - 1):
        value = {"a": value}
    return value


def refused(body: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as raised:
        ChatRequest.read(body)
    return raised.value


# ---- Depth


@pytest.mark.parametrize("levels", [MAX_NESTING + 1, 255, 300, 1023])
def test_what_is_nested_too_deeply_is_refused_by_name(levels: int) -> None:
    error = refused(HELLO | {"brand_new": nested(levels)})

    assert (error.status, error.code, error.param) == (400, "invalid_parameter", "brand_new")


def test_every_parameter_has_a_depth() -> None:
    function = {"name": "f", "parameters": objects(300)}
    schema = {"name": "a", "schema": objects(300)}
    asked = {
        "tools": [{"type": "function", "function": function}],
        "functions": [function],
        "response_format": {"type": "json_schema", "json_schema": schema},
        "provider": objects(300),
        "messages": [{"role": "user", "content": "Hello!", "brand_new": nested(300)}],
    }

    assert [refused(HELLO | {name: value}).param for name, value in asked.items()] == list(asked)


def test_what_is_nested_as_deeply_as_allowed_can_be_written_again() -> None:
    request = ChatRequest.read(HELLO | {"brand_new": nested(MAX_NESTING)})

    assert orjson.loads(orjson.dumps(request.body)) == request.body


@given(st.integers(0, 150), st.integers(0, 150), st.booleans())
def test_depth_is_how_many_stand_inside_each_other(depth: int, levels: int, wide: bool) -> None:
    value = [nested(depth - 1), 1, "[[[["] if wide and depth else nested(depth)

    assert nests_deeper(value, levels) == (depth > levels)


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
