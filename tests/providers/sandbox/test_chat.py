"""The sandbox: labelled, the same every time, and obedient to what a client may ask."""

import json
from typing import Any

import pytest

from providers.sandbox.schema import LABEL
from tests.providers.requests_and_routes import chat
from tests.providers.sandbox.asking import SCHEMA, TOOLS, ask, text_of
from tokens import count


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
