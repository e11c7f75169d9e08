"""What Gemini is asked in its words: messages, media, tools and calls."""

from typing import Any

import pytest

from models.errors import InvalidRequest
from net.call import Call
from providers.gemini.messages import NO_SIGNATURE
from providers.wire import caller_images
from providers.wire.caller_images import Media
from tests.providers.gemini.asking import (
    FLASH,
    HELLO,
    OLD_FLASH,
    PIXEL,
    SCHEMA,
    TOOLS,
    calling,
    contents,
    result,
    sent,
    user,
)

# ---- What is sent


def test_a_hello_is_little_more_than_itself() -> None:
    assert sent() == {
        "contents": [HELLO],
        "generationConfig": {
            "temperature": 0.7,
            "thinkingConfig": {"includeThoughts": True},
        },
    }


def test_what_the_system_and_the_developer_say_goes_before() -> None:
    parts = [{"type": "text", "text": "In verse."}]

    payload = sent(
        messages=[
            {"role": "system", "content": "Be brief."},
            user(),
            {"role": "developer", "content": parts},
        ]
    )

    assert payload["systemInstruction"] == {"parts": [{"text": "Be brief."}, {"text": "In verse."}]}
    assert payload["contents"] == [HELLO]


def test_a_request_of_the_system_alone_has_a_turn_of_the_user() -> None:
    assert contents({"role": "system", "content": "Say hi."}) == [
        {"role": "user", "parts": [{"text": " "}]}
    ]


def test_neighbours_of_one_role_are_one_turn() -> None:
    said = contents(
        user("One"),
        user("Two"),
        {"role": "assistant", "content": "Three"},
        {"role": "assistant", "content": "Four"},
    )

    assert said == [
        {"role": "user", "parts": [{"text": "One"}, {"text": "Two"}]},
        {"role": "model", "parts": [{"text": "Three"}, {"text": "Four"}]},
    ]


def test_what_says_nothing_is_left_out() -> None:
    empty = [{"type": "text", "text": ""}, {"type": "text", "text": "Hello!"}]

    assert contents(user(empty), {"role": "assistant", "content": ""}) == [HELLO]


def test_a_refusal_was_said_by_the_model() -> None:
    parts = [{"type": "refusal", "refusal": "No."}]

    for message in ({"content": parts}, {"content": None, "refusal": "No."}):
        said = contents(user(), {"role": "assistant"} | message)

        assert said[1] == {"role": "model", "parts": [{"text": "No."}]}


def test_an_image_in_a_data_url_goes_along() -> None:
    parts = [
        {"type": "text", "text": "What is it?"},
        {"type": "image_url", "image_url": {"url": PIXEL}},
        {"type": "image_url", "image_url": {"url": "data:image/svg+xml,%3Csvg%3E"}},
    ]

    assert contents(user(parts))[0]["parts"] == [
        {"text": "What is it?"},
        {"inlineData": {"mimeType": "image/png", "data": "aGk="}},
        {"inlineData": {"mimeType": "image/svg+xml", "data": "PHN2Zz4="}},
    ]


def test_an_image_at_a_url_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def fetch(call: Call, url: str, param: str) -> Media:
        asked.append((url, param))
        return Media("image/jpeg", b"hi")

    monkeypatch.setattr(caller_images, "fetch", fetch)
    part = {"type": "image_url", "image_url": {"url": "https://example.com/a"}}

    said = contents(user([part]))

    assert said[0]["parts"] == [{"inlineData": {"mimeType": "image/jpeg", "data": "aGk="}}]
    assert asked == [("https://example.com/a", "messages[0].content[0].image_url.url")]


@pytest.mark.parametrize(
    ("part", "media_type"),
    [
        ({"type": "input_audio", "input_audio": {"data": "aGk=", "format": "wav"}}, "audio/wav"),
        ({"type": "input_audio", "input_audio": {"data": "aGk=", "format": "mp3"}}, "audio/mp3"),
        ({"type": "file", "file": {"file_data": "data:text/csv;base64,aGk="}}, "text/csv"),
        ({"type": "file", "file": {"file_data": "aGk=", "filename": "a.txt"}}, "text/plain"),
        ({"type": "file", "file": {"file_data": "aGk="}}, "application/pdf"),
    ],
)
def test_sounds_and_files_go_along(part: dict[str, Any], media_type: str) -> None:
    assert contents(user([part]))[0]["parts"] == [
        {"inlineData": {"mimeType": media_type, "data": "aGk="}}
    ]


@pytest.mark.parametrize(
    ("part", "param"),
    [
        ({"type": "image_url", "image_url": {"url": "data:,"}}, "image_url.url"),
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}, "image_url.url"),
        ({"type": "input_audio", "input_audio": {"data": "aGk="}}, "input_audio"),
        ({"type": "file", "file": {"file_data": 1}}, "file.file_data"),
    ],
)
def test_media_that_are_none_are_refused_by_place(part: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        contents(user([part]))

    assert refused.value.param == f"messages[0].content[0].{param}"


# ---- Tools


def test_tools_are_declared() -> None:
    function = {"name": "weather", "description": "Tells it.", "parameters": SCHEMA, "strict": True}

    assert sent(tools=[{"type": "function", "function": function}])["tools"] == [
        {
            "functionDeclarations": [
                {"name": "weather", "description": "Tells it.", "parametersJsonSchema": SCHEMA}
            ]
        }
    ]


@pytest.mark.parametrize(
    "schema",
    [None, {}, {"type": "object"}, {"type": "object", "properties": {}}]
    + [{"type": "object", "properties": {}, "required": [], "additionalProperties": False}],
)
def test_a_function_without_arguments_has_no_schema(schema: Any) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": schema}}

    assert sent(tools=[tool])["tools"] == [{"functionDeclarations": [{"name": "f"}]}]


@pytest.mark.parametrize(
    ("choice", "chosen"),
    [
        ("auto", None),
        ("none", {"mode": "NONE"}),
        ("required", {"mode": "ANY"}),
        (
            {"type": "function", "function": {"name": "f"}},
            {"mode": "ANY", "allowedFunctionNames": ["f"]},
        ),
    ],
)
def test_the_choice_among_tools(choice: Any, chosen: Any) -> None:
    payload = sent(tools=TOOLS, tool_choice=choice)

    assert payload.get("toolConfig", {}).get("functionCallingConfig") == chosen


def test_calls_and_their_results_find_each_other() -> None:
    said = contents(
        user(),
        calling("a", arguments='{"x": [1, 2.5, null]}'),
        result("a", "42"),
        calling("b", "c", name="g"),
        result("c", '{"value": 3}'),
        result("b", ""),
    )

    assert [turn["role"] for turn in said] == ["user", "model", "user", "model", "user"]
    assert said[1]["parts"][0]["functionCall"] == {
        "id": "a",
        "name": "f",
        "args": {"x": [1, 2.5, None]},
    }
    assert said[2]["parts"] == [
        {"functionResponse": {"id": "a", "name": "f", "response": {"result": "42"}}}
    ]
    assert said[4]["parts"] == [
        {"functionResponse": {"id": "c", "name": "g", "response": {"value": 3}}},
        {"functionResponse": {"id": "b", "name": "g", "response": {"result": ""}}},
    ]


def test_old_functions_in_the_history_are_calls_all_the_same() -> None:
    said = contents(
        user(),
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": ""}},
        {"role": "function", "name": "f", "content": "42"},
    )

    assert said[1]["parts"][0]["functionCall"] == {"name": "f", "args": {}}
    assert said[2]["parts"][0]["functionResponse"] == {"name": "f", "response": {"result": "42"}}


def test_a_result_of_no_call_is_refused() -> None:
    with pytest.raises(InvalidRequest) as refused:
        contents(user(), calling("a"), result("b", "42"))

    assert refused.value.param == "messages[2].tool_call_id"


@pytest.mark.parametrize("arguments", ["{", "[1]", '"text"'])
def test_arguments_that_are_no_object_are_refused(arguments: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        contents(user(), calling("a", arguments=arguments))

    assert refused.value.param == "messages[1].tool_calls[0].function.arguments"


def test_a_thoughts_signature_comes_back_with_its_call() -> None:
    signed = calling("a", extra_content={"google": {"thought_signature": "abc"}})

    for model in (FLASH, OLD_FLASH):
        (part,) = contents(user(), signed, model=model)[1]["parts"]

        assert part["thoughtSignature"] == "abc"


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (FLASH, [NO_SIGNATURE, None]),
        ("gemini-pro-latest", [NO_SIGNATURE, None]),
        (OLD_FLASH, [None, None]),
    ],
)
def test_a_lost_signature_is_made_up_for_where_one_is_needed(
    model: str, expected: list[str | None]
) -> None:
    said = contents(user(), calling("a", "b"), model=model)

    assert [part.get("thoughtSignature") for part in said[1]["parts"]] == expected


@pytest.mark.parametrize("extra", [None, [], {"google": None}, {"google": {}}, {"google": "x"}])
def test_what_is_no_signature_is_not_sent_as_one(extra: Any) -> None:
    (part,) = contents(user(), calling("a", extra_content=extra), model=OLD_FLASH)[1]["parts"]

    assert "thoughtSignature" not in part
