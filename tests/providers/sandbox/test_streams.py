"""The sandbox's streams, word by word, and its models with a way of their own."""

import threading
from typing import Any

import pytest

from models.errors import JobCancelled, LikeDoError, ProviderBusy, ProviderFailed
from net.call import Call
from providers.sandbox import chat as sandbox_chat
from providers.sandbox.schema import LABEL
from providers.wire.chunks import Assembly
from tests.providers.requests_and_routes import chat
from tests.providers.sandbox.asking import SCHEMA, TOOLS, ask, deltas, listen

# ---- Streams


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"n": 3},
        {"max_tokens": 2},
        {"tools": TOOLS, "tool_choice": "required"},
        {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "second"}}},
        {"functions": [{"name": "f", "parameters": SCHEMA}], "function_call": {"name": "f"}},
        {"response_format": {"type": "json_object"}},
        {"messages": [{"role": "user", "content": "Two  spaces\nand a line."}]},
    ],
    ids=str,
)
def test_a_stream_says_what_a_whole_answer_does(parameters: dict[str, Any], hurried: None) -> None:
    request, assembly = chat(**parameters), Assembly()

    for chunk in listen(request):
        assembly.add(chunk)

    assert assembly.completion() == ask(request)


def test_a_stream_is_said_word_by_word(hurried: None) -> None:
    first, *said, finish = deltas(listen(chat()))

    assert first == {"role": "assistant", "content": "", "refusal": None}
    assert [delta["content"].strip() for delta in said] == f"{LABEL} You asked: Hello!".split()
    assert finish == {}


def test_the_choices_of_a_stream_take_turns(hurried: None) -> None:
    said = [choice["index"] for chunk in listen(chat(n=2)) for choice in chunk["choices"]]

    assert said[:6] == [0, 1, 0, 1, 0, 1]


def test_the_arguments_of_a_call_come_in_pieces(hurried: None) -> None:
    named = {"type": "function", "function": {"name": "second"}}

    pieces = [
        piece
        for delta in deltas(listen(chat(tools=TOOLS, tool_choice=named)))
        for piece in delta.get("tool_calls", ())
    ]

    assert pieces[0]["function"] == {"name": "second", "arguments": ""}
    assert len(pieces) > 10
    assert all(piece.keys() == {"index", "function"} for piece in pieces[1:])


def test_a_stream_keeps_a_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    call = Call(60)
    monkeypatch.setattr(call, "wait", waited.append)

    said = deltas(listen(chat(), call=call))
    told = deltas(listen(chat(), "sandbox/long", call=call))

    assert 20 <= len(said) / sum(waited[: len(said) - 1]) <= 30
    assert 2 <= sum(waited) <= 8
    assert len(told) > 2000


def test_a_stream_can_be_cancelled_between_two_words() -> None:
    call = Call(60)
    reason = JobCancelled("The job was cancelled.")
    said = listen(chat(), call=call)
    next(said)

    call.abort(reason)

    with pytest.raises(JobCancelled):
        next(said)


# ---- Models with a way of their own


def test_the_long_model_answers_at_length() -> None:
    answer = ask(chat(), "sandbox/long")

    assert answer["usage"]["completion_tokens"] > 2000


@pytest.mark.parametrize(
    ("model", "kind"),
    [("sandbox/error-429", ProviderBusy), ("sandbox/error-500", ProviderFailed)],
)
def test_the_failing_models_fail(model: str, kind: type[LikeDoError]) -> None:
    with pytest.raises(kind):
        ask(chat(), model)
    with pytest.raises(kind):
        next(listen(chat(), model))


def test_the_cut_model_breaks_off_in_the_middle(hurried: None) -> None:
    said = listen(chat(), "sandbox/cut")
    heard = [next(said)["choices"][0]["delta"]["content"] for _ in range(4)]

    with pytest.raises(ProviderFailed, match="break off"):
        for chunk in said:
            heard.append(chunk["choices"][0]["delta"]["content"])

    text = f"{LABEL} You asked: Hello!"
    assert text.startswith("".join(heard))
    assert "".join(heard) != text


def test_the_cut_model_fails_where_it_cannot_break_off() -> None:
    with pytest.raises(ProviderFailed):
        ask(chat(), "sandbox/cut")


def test_the_slow_model_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    call = Call(60)
    monkeypatch.setattr(call, "wait", waited.append)

    ask(chat(), "sandbox/slow", call=call)
    next(listen(chat(), "sandbox/slow", call=call))

    assert waited == [sandbox_chat.SLOW_SECONDS] * 2


def test_the_slow_model_can_be_cancelled() -> None:
    call = Call(60)
    reason = JobCancelled("The job was cancelled.")
    threading.Thread(target=call.abort, args=(reason,)).start()

    with pytest.raises(JobCancelled):
        ask(chat(), "sandbox/slow", call=call)
