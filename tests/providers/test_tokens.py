"""Counting tokens offline, and the guess that needs no tokenizer."""

import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.tokens import TOKENS_PER_IMAGE, TOKENS_PER_SMALL_IMAGE, prompt_ceiling
from providers import tokens
from tests.upstream import ROOT

ORDINARY = [
    "The quick brown fox jumps over the lazy dog.",
    "Der schnelle braune Fuchs springt über den faulen Hund.",
    "Съешь же ещё этих мягких французских булок, да выпей чаю.",
    "いろはにほへと ちりぬるを わかよたれそ つねならむ",
    "def fib(n):\n    return n if n < 2 else fib(n - 1) + fib(n - 2)\n",
    '{"colour": "red", "sizes": [1, 2, 3], "price": 12.5}',
]


def user(content: Any, **fields: Any) -> dict[str, Any]:
    return {"role": "user", "content": content} | fields


@pytest.mark.parametrize(
    ("text", "count"), [("", 0), ("hello world", 2), ("<|endoftext|>", 7), ("\ud800", 1)]
)
def test_a_text_is_counted_as_openai_does(text: str, count: int) -> None:
    assert tokens.count_text(text) == count


def test_no_text_is_too_long() -> None:
    assert tokens.count_text("a" * 3_000_000) == 375_000


def test_a_prompt_is_its_texts_and_what_frames_them() -> None:
    # 3 for the message and 3 for the reply, 1 each for "user" and "Hello", 1 for a name's field.
    assert tokens.count_prompt([user("Hello")]) == 3 + 3 + 1 + 1
    assert tokens.count_prompt([user("Hello", name="Bob")]) == 3 + 3 + 1 + 1 + 1 + 1
    assert tokens.count_prompt([user([{"type": "text", "text": "Hello"}])]) == 3 + 3 + 1 + 1


def test_tools_and_calls_are_part_of_the_prompt() -> None:
    tool = {"type": "function", "function": {"name": "find", "parameters": {"type": "object"}}}
    call = {"id": "c", "type": "function", "function": {"name": "find", "arguments": "{}"}}
    calling = {"role": "assistant", "content": None, "tool_calls": [call]}

    plain = tokens.count_prompt([user("Hello")])

    assert tokens.count_prompt([user("Hello")], [tool]) > plain
    assert tokens.count_prompt([user("Hello"), calling]) > plain + 3


@pytest.mark.parametrize("count", [tokens.count_prompt, prompt_ceiling])
def test_an_image_is_a_flat_figure_whatever_its_bytes(count: Any) -> None:
    def prompt(size: int, detail: str) -> list[dict[str, Any]]:
        url = "data:image/png;base64," + "A" * size
        return [user([{"type": "image_url", "image_url": {"url": url, "detail": detail}}])]

    bare = count([user([])])

    assert count(prompt(10, "auto")) == count(prompt(1_000_000, "high")) == bare + TOKENS_PER_IMAGE
    assert count(prompt(10, "low")) == bare + TOKENS_PER_SMALL_IMAGE


def test_an_answer_is_all_that_was_said() -> None:
    function = {"name": "find", "arguments": '{"a":1}'}
    said = [
        {"message": {"content": "hello world", "reasoning_content": "hello"}},
        {"message": {"content": None, "tool_calls": [{"function": function}]}},
    ]

    counted = tokens.count_answer({"choices": said})

    assert counted == 2 + 1 + 1 + tokens.count_text('{"a":1}')


@given(st.text(), st.integers(0, 20))
def test_a_cut_text_is_a_beginning_of_at_most_so_many_tokens(text: str, limit: int) -> None:
    beginning = tokens.cut(text, limit)

    assert text.startswith(beginning)
    assert len(beginning.encode()) <= len(text.encode())


@pytest.mark.parametrize("text", ORDINARY)
def test_the_ceiling_is_above_the_count_of_ordinary_text(text: str) -> None:
    messages = [{"role": "system", "content": text}, user(text * 50), user(text, name="Bob")]

    assert prompt_ceiling(messages) >= tokens.count_prompt(messages)


FIELDS = ["role", "content", "type", "text", "name", "image_url", "tool_calls"]
ANYTHING = st.recursive(
    st.none() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(FIELDS), inner),
)


@given(ANYTHING)
def test_no_message_is_too_odd_to_be_estimated(content: Any) -> None:
    assert prompt_ceiling([user(content)]) >= 6


def test_estimating_does_not_load_the_tokenizer() -> None:
    """A web process estimates; the tokenizer's memory is the worker's."""
    program = (
        "import sys; from models.tokens import prompt_ceiling; import providers.tokens;"
        "prompt_ceiling([{'role': 'user', 'content': 'Hello'}]);"
        "print([name for name in sys.modules if 'bpe' in name or '_bindings' in name])"
    )

    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)

    assert (done.stdout, done.stderr) == ("[]\n", "")
