"""Whatever comes is an answer that can be written again, or a failure."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import LikeDoError, ProviderFailed
from tests.providers.wire.answers import F, read


def deep(levels: int, inside: str = "1") -> bytes:
    """Return an answer with an annotation in so many levels of lists and objects."""
    pairs = (levels - 5) // 2
    value = '[{"a":' * pairs + inside + "}]" * pairs
    annotations = f"[{value}]" if levels % 2 else f"[[{value}]]"
    return b'{"choices":[{"message":{"content":"Hi.","annotations":%s}}]}' % annotations.encode()


@pytest.mark.parametrize("levels", [201, 250, 255, 1023, 1025, 2000, 100_000])
@pytest.mark.parametrize("inside", ["1", '"\\ud83d"'])
def test_an_answer_that_is_nested_too_deeply_is_a_failure(levels: int, inside: str) -> None:
    with pytest.raises(ProviderFailed, match="nested too deeply"):
        read(deep(levels, inside))


@pytest.mark.parametrize("content", [b"[" * 100_000, b'{"a":' * 100_000, b"[" * 201 + b"]" * 201])
def test_nothing_but_depth_is_a_failure(content: bytes) -> None:
    with pytest.raises(ProviderFailed):
        read(content)


@pytest.mark.parametrize("levels", [8, 100, 199, 200])
def test_an_answer_may_be_nested(levels: int) -> None:
    assert orjson.dumps(read(deep(levels)))


def with_number(number: str, text: str) -> bytes:
    message = f'{{"content": {text}, "annotations": [{number}]}}'
    return f'{{"choices": [{{"message": {message}}}], "created": {number}}}'.encode()


#: Beside half of a character, which another decoder reads.
texts = pytest.mark.parametrize("text", ['"Hi."', '"\\ud83d"'])


@pytest.mark.parametrize("number", ["9" * 30, "-" + "9" * 30, "18446744073709551616", "9" * 300])
@texts
def test_a_number_beyond_64_bits_can_be_written_again(number: str, text: str) -> None:
    answer = read(with_number(number, text))

    assert orjson.loads(orjson.dumps(answer)) == answer


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "9" * 400, "9" * 5000, "1e999"])
@texts
def test_a_number_that_json_does_not_know_is_a_failure(number: str, text: str) -> None:
    with pytest.raises(ProviderFailed, match="not JSON"):
        read(with_number(number, text))


KEYS = ["choices", "message", "error", "usage", "tool_calls", "content", "finish_reason", "code",
        "prompt_tokens", "completion_tokens", "prompt_cache_hit_tokens", "id", "index", "logprobs",
        "prompt_tokens_details", "function", "function_call", "name", "arguments", "role", "type",
        "created"]  # fmt: skip
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=6)
    ),
    max_leaves=30,
)
MESSAGE = st.dictionaries(st.sampled_from(KEYS), ANYTHING)
CHOICES = st.lists(st.fixed_dictionaries({"message": MESSAGE, "finish_reason": ANYTHING}))
USAGE = st.dictionaries(st.sampled_from(KEYS), ANYTHING)


@given(ANYTHING | st.fixed_dictionaries({"choices": CHOICES, "usage": USAGE, "id": ANYTHING}))
def test_whatever_comes_is_a_sound_answer_or_an_error(body: Any) -> None:
    try:
        answer = read(body)
    except LikeDoError:
        return

    assert orjson.loads(orjson.dumps(answer)) == answer
    assert isinstance(answer["id"], str)
    assert type(answer["created"]) is int
    assert all(type(count) is int for count in answer.get("usage", {}).values() if count != {})
    for choice in answer["choices"]:
        is_sound(choice)


def is_sound(choice: dict[str, Any]) -> None:
    message = choice["message"]
    assert type(choice["index"]) is int
    assert isinstance(choice["finish_reason"], str | None)
    assert isinstance(choice["logprobs"], dict | None)
    assert message["role"] == "assistant"
    assert isinstance(message["content"], str | list | None)
    calls = [call["function"] for call in message.get("tool_calls", ())]
    for call in [*calls, message.get("function_call", F)]:
        assert isinstance(call["name"], str)
        assert isinstance(call["arguments"], str)
