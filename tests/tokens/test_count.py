"""Counting tokens offline."""

from typing import Any

import gevent
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokens import count as tokens_count


def user(content: Any, **fields: Any) -> dict[str, Any]:
    return {"role": "user", "content": content} | fields


def prompt(*messages: dict[str, Any]) -> dict[str, Any]:
    return {"model": "m", "messages": list(messages)}


@pytest.mark.parametrize(
    ("text", "count"), [("", 0), ("hello world", 2), ("<|endoftext|>", 7), ("\ud800", 1)]
)
def test_a_text_is_counted_as_openai_does(text: str, count: int) -> None:
    assert tokens_count.count_text(text) == count


def test_no_text_is_too_long() -> None:
    assert tokens_count.count_text("a" * 3_000_000) == 375_000


def test_a_long_text_is_counted_in_pieces_and_others_have_their_turn() -> None:
    turns: list[int] = []
    watcher = gevent.spawn(lambda: [gevent.sleep(0) or turns.append(1) for _ in range(10_000)])

    assert tokens_count.count_text("Hello world. " * 100_000) == 300_001

    watcher.kill()
    assert len(turns) >= 2


def test_a_prompt_is_its_texts_and_what_frames_them() -> None:
    # 3 for the message and 3 for the reply, 1 each for "user" and "Hello", 1 for a name's field.
    assert tokens_count.count_prompt(prompt(user("Hello"))) == 3 + 3 + 1 + 1
    assert tokens_count.count_prompt(prompt(user("Hello", name="Bob"))) == 3 + 3 + 1 + 1 + 1 + 1
    parts = [{"type": "text", "text": "Hello"}]
    assert tokens_count.count_prompt(prompt(user(parts))) == 3 + 3 + 1 + 1


def test_definitions_and_calls_are_part_of_the_prompt() -> None:
    function = {"name": "find", "parameters": {"type": "object"}}
    call = {"id": "c", "type": "function", "function": {"name": "find", "arguments": "{}"}}
    calling = {"role": "assistant", "content": None, "tool_calls": [call]}
    wanted = {"type": "json_schema", "json_schema": {"name": "find", "schema": {"type": "object"}}}

    plain = tokens_count.count_prompt(prompt(user("Hello")))

    assert tokens_count.count_prompt(prompt(user("Hello"), calling)) > plain + 3
    for parameter in (
        {"tools": [{"type": "function", "function": function}]},
        {"functions": [function]},
        {"response_format": wanted},
    ):
        assert tokens_count.count_prompt(prompt(user("Hello")) | parameter) > plain + 8


def test_an_answer_is_all_that_was_said() -> None:
    function = {"name": "find", "arguments": '{"a":1}'}
    said = [
        {"message": {"content": "hello world", "reasoning_content": "hello"}},
        {"message": {"content": None, "tool_calls": [{"function": function}]}},
    ]

    counted = tokens_count.count_answer({"choices": said})

    assert counted == 2 + 1 + 1 + tokens_count.count_text('{"a":1}')


def test_an_answer_in_parts_is_counted_too() -> None:
    said = {"message": {"content": [{"type": "text", "text": "hello world"}, {"type": "other"}]}}

    assert tokens_count.count_answer({"choices": [said]}) == 2


@given(st.text(), st.integers(0, 20))
def test_a_cut_text_is_a_beginning_of_at_most_so_many_tokens(text: str, limit: int) -> None:
    beginning = tokens_count.cut(text, limit)

    assert text.startswith(beginning)
    assert len(beginning.encode()) <= len(text.encode())
