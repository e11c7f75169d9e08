"""The sandbox: labelled, the same every time, and obedient to what a client may ask."""

import json
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from models.chat import ChatRequest
from models.errors import JobCancelled, LikeDoError, ProviderBusy, ProviderFailed
from net.call import Call
from providers.sandbox import chat as sandbox_chat
from providers.sandbox.chat import Sandbox
from providers.sandbox.schema import LABEL
from providers.wire.chunks import Assembly
from tests.providers.requests_and_routes import chat, route
from tokens import count

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "when": {"type": "string", "format": "date"},
        "size": {"type": "integer", "minimum": 3, "maximum": 9},
        "share": {"type": "number", "exclusiveMinimum": 0, "maximum": 0.5},
        "unit": {"enum": ["celsius", "kelvin"]},
        "kind": {"const": "weather"},
        "sure": {"type": "boolean"},
        "maybe": {"anyOf": [{"type": "null"}, {"type": "string"}]},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 5}, "minItems": 2},
        "place": {"$ref": "#/$defs/place"},
    },
    "required": ["name", "place"],
    "additionalProperties": False,
    "$defs": {
        "place": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "within": {"$ref": "#/$defs/place"}},
            "required": ["city"],
        }
    },
}
TOOLS = [
    {"type": "function", "function": {"name": "first"}},
    {"type": "function", "function": {"name": "second", "parameters": SCHEMA}},
]


def ask(
    request: ChatRequest, model: str = "any", limit: int | None = None, call: Call | None = None
) -> dict[str, Any]:
    return Sandbox().complete(request, route("sandbox", model=model), limit, "", call or Call(20))


def text_of(answer: dict[str, Any]) -> str:
    return str(answer["choices"][0]["message"]["content"])


def test_an_answer_is_labelled_and_echoes_the_question() -> None:
    answer = ask(chat())

    assert text_of(answer) == f"{LABEL} You asked: Hello!"
    assert answer["choices"][0]["finish_reason"] == "stop"


def test_the_same_question_has_the_same_answer() -> None:
    assert ask(chat(seed=1)) == ask(chat(seed=1))
    assert ask(chat(seed=1))["id"] != ask(chat(seed=2))["id"]


def test_tokens_are_counted() -> None:
    request = chat()

    usage = ask(request)["usage"]

    assert usage["prompt_tokens"] == count.count_prompt(request.body)
    assert usage["completion_tokens"] == count.count_text(f"{LABEL} You asked: Hello!")
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def test_a_long_question_is_shortened() -> None:
    answer = ask(chat(messages=[{"role": "user", "content": "word " * 1000}]))

    assert len(text_of(answer)) < 400
    assert text_of(answer).endswith("…")


def test_parts_are_echoed_by_their_kind() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    text = {"type": "text", "text": "What is it?"}

    answer = ask(chat(messages=[{"role": "user", "content": [text, image]}]))

    assert text_of(answer).endswith("What is it? [image_url]")


@pytest.mark.parametrize("limit", [1, 2, 7])
def test_an_answer_is_cut_at_its_limit(limit: int) -> None:
    for answer in (ask(chat(max_tokens=limit)), ask(chat(), limit=limit)):
        assert answer["choices"][0]["finish_reason"] == "length"
        assert answer["usage"]["completion_tokens"] == limit
        assert f"{LABEL} You asked".startswith(text_of(answer))


def test_an_answer_ends_before_a_stop_sequence() -> None:
    answer = ask(chat(stop=["nowhere", " You"]))

    assert text_of(answer) == LABEL
    assert answer["choices"][0]["finish_reason"] == "stop"


def test_there_are_as_many_choices_as_asked_for() -> None:
    answer = ask(chat(n=3))

    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]
    assert len({choice["message"]["content"] for choice in answer["choices"]}) == 3


# ---- Tools and schemas


def test_a_required_tool_is_called_with_valid_arguments() -> None:
    named = {"type": "function", "function": {"name": "second"}}

    (choice,) = ask(chat(tools=TOOLS, tool_choice=named))["choices"]

    (call,) = choice["message"]["tool_calls"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    assert call["function"]["name"] == "second"
    is_valid(json.loads(call["function"]["arguments"]))


def test_any_tool_will_do_where_none_is_named() -> None:
    (choice,) = ask(chat(tools=TOOLS, tool_choice="required"))["choices"]

    assert choice["message"]["tool_calls"][0]["function"]["name"] == "first"


def test_no_tool_is_called_unasked() -> None:
    assert text_of(ask(chat(tools=TOOLS, tool_choice="auto"))).startswith(LABEL)


def test_an_old_function_is_called_in_the_old_way() -> None:
    functions = [tool["function"] for tool in TOOLS]

    (choice,) = ask(chat(functions=functions, function_call={"name": "second"}))["choices"]

    assert choice["finish_reason"] == "function_call"
    is_valid(json.loads(choice["message"]["function_call"]["arguments"]))


def test_a_json_object_is_json_and_labelled() -> None:
    said = json.loads(text_of(ask(chat(response_format={"type": "json_object"}))))

    assert said == {"sandbox": LABEL, "echo": "Hello!"}


def test_a_schema_is_kept_and_still_labelled() -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}}

    said = json.loads(text_of(ask(chat(response_format=wanted))))

    is_valid(said)
    assert said["name"] == LABEL


def test_a_schema_that_allows_more_gets_a_note() -> None:
    schema = {"type": "object", "properties": {"size": {"type": "integer"}}}
    wanted = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}

    assert json.loads(text_of(ask(chat(response_format=wanted)))) == {"size": 1, "sandbox": LABEL}


def is_valid(value: dict[str, Any]) -> None:
    assert value.keys() <= SCHEMA["properties"].keys()
    assert value.keys() >= set(SCHEMA["required"])
    assert isinstance(value["name"], str)
    assert 3 <= value["size"] <= 9
    assert 0 < value["share"] <= 0.5
    assert (value["unit"], value["kind"]) == ("celsius", "weather")
    assert isinstance(value["sure"], bool)
    assert isinstance(value["maybe"], str)
    assert [len(tag) for tag in value["tags"]] == [5, 5]
    assert isinstance(value["place"]["city"], str)


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "null"},
        {"type": ["string", "null"]},
        {"allOf": [{"properties": {"a": {"type": "integer"}}}, {"required": ["a"]}]},
        {"$ref": "#/$defs/nowhere"},
        {"$ref": "#"},
        {"type": "array", "items": True},
        {"type": "object", "required": ["unknown"]},
        {"type": "integer", "multipleOf": 5, "minimum": 7},
    ],
)
def test_no_schema_is_too_odd(schema: dict[str, Any]) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}

    json.loads(text_of(ask(chat(response_format=wanted))))


# ---- Streams


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let streams speak faster than anybody reads."""
    for name in ("WORDS_PER_SECOND", "LONG_WORDS_PER_SECOND"):
        monkeypatch.setattr(sandbox_chat, name, 10**9)


def listen(
    request: ChatRequest, model: str = "any", call: Call | None = None
) -> Iterator[dict[str, Any]]:
    return Sandbox().stream(request, route("sandbox", model=model), None, "", call or Call(20))


def deltas(said: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [choice["delta"] for chunk in said for choice in chunk["choices"]]


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
