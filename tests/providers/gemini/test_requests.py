"""Gemini: what is asked in its words, what it says in OpenAI's, and what it cannot honour."""

import json
from typing import Any

import pytest

from config.catalog.load import catalog
from models.errors import (
    ContentPolicyViolation,
    InvalidRequest,
    LikeDoError,
    ProviderFailed,
    UnsupportedParameter,
)
from net.call import Call
from providers.gemini import answers
from providers.gemini.chat import Gemini
from providers.gemini.messages import NO_SIGNATURE
from providers.wire import caller_images
from providers.wire.caller_images import Media
from providers.wire.chunks import Assembly
from tests import recordings
from tests.providers.gemini import recordings as gemini_recordings
from tests.providers.requests_and_routes import chat, route
from tests.providers.test_recordings import Case, is_geminis
from tests.upstream import Upstream, gemini_said

FLASH, OLD_FLASH, OLD_PRO = "gemini-3.8-flash", "gemini-2.5-flash", "gemini-2.5-pro"
TOOLS = [{"type": "function", "function": {"name": "f"}}]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
HELLO = {"role": "user", "parts": [{"text": "Hello!"}]}
PIXEL = "data:image/png;base64,aGk="


def sent(model: str = FLASH, *, limit: int | None = None, **parameters: Any) -> dict[str, Any]:
    """Return what goes to `model`, which thinks, once the check has let it through."""
    request, way = chat(**parameters), route("gemini", model=model, reasoning=True)
    Gemini().check(request, way)
    return Gemini().payload(request, way, limit, Call(5))


def config(model: str = FLASH, **parameters: Any) -> dict[str, Any]:
    """Return the configuration without what is there anyway."""
    found = dict(sent(model, **parameters)["generationConfig"])
    return {n: v for n, v in found.items() if n not in ("temperature", "thinkingConfig")}


def thinking(model: str = FLASH, **parameters: Any) -> Any:
    return sent(model, **parameters)["generationConfig"]["thinkingConfig"]


def contents(*messages: dict[str, Any], model: str = FLASH) -> Any:
    return sent(model, messages=list(messages))["contents"]


def user(content: Any = "Hello!") -> dict[str, Any]:
    return {"role": "user", "content": content}


def calling(*ids: str, name: str = "f", arguments: str = "{}", **more: Any) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    calls = [{"id": i, "type": "function", "function": function} | more for i in ids]
    return {"role": "assistant", "content": None, "tool_calls": calls}


def result(call_id: str, content: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


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


# ---- Parameters


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"top_p": 0.5}, {"topP": 0.5}),
        ({"top_p": 1}, {"topP": 1}),
        ({"presence_penalty": 1}, {"presencePenalty": 1}),
        ({"frequency_penalty": -1}, {"frequencyPenalty": -1}),
        ({"presence_penalty": 0, "frequency_penalty": 0.0}, {}),
        ({"n": 3}, {"candidateCount": 3}),
        ({"n": 1}, {}),
        ({"stop": "END"}, {"stopSequences": ["END"]}),
        ({"stop": ["a", "b"]}, {"stopSequences": ["a", "b"]}),
        ({"seed": 7}, {"seed": 7}),
        ({"seed": -(2**31)}, {"seed": -(2**31)}),
        ({"seed": 2**31}, {"seed": -(2**31)}),
        ({"seed": 2**63 - 1}, {"seed": -1}),
        ({"max_tokens": 5}, {"maxOutputTokens": 5}),
        ({"max_completion_tokens": 5}, {"maxOutputTokens": 5}),
        ({"logprobs": True}, {"responseLogprobs": True}),
        ({"logprobs": True, "top_logprobs": 3}, {"responseLogprobs": True, "logprobs": 3}),
        ({"logprobs": False}, {}),
        ({"response_format": {"type": "text"}}, {}),
        (
            {"response_format": {"type": "json_object"}},
            {"responseMimeType": "application/json"},
        ),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "a", "schema": SCHEMA, "description": "A city."},
                }
            },
            {
                "responseMimeType": "application/json",
                "responseJsonSchema": SCHEMA | {"description": "A city."},
            },
        ),
        ({"user": "u", "metadata": {"a": "b"}, "store": True, "service_tier": "auto"}, {}),
        ({"brand_new": 1, "top_k": 5, "logit_bias": {}, "parallel_tool_calls": True}, {}),
    ],
)
def test_a_parameter_in_geminis_words(parameters: dict[str, Any], expected: dict[str, Any]) -> None:
    assert config(**parameters) == expected


def test_the_limit_to_send_overrides_the_callers() -> None:
    assert config(limit=300, max_tokens=900) == {"maxOutputTokens": 300}


def test_a_temperature_is_the_callers_or_ours_where_the_model_takes_one() -> None:
    assert sent()["generationConfig"]["temperature"] == 0.7
    assert sent(temperature=0)["generationConfig"]["temperature"] == 0
    assert sent(temperature=1)["generationConfig"]["temperature"] == 1
    bare = route("gemini", frozenset({"tools"}), model=FLASH)
    assert "generationConfig" not in Gemini().payload(chat(), bare, None, Call(5))


@pytest.mark.parametrize(
    ("model", "effort", "expected"),
    [
        (FLASH, "minimal", {"thinkingLevel": "minimal", "includeThoughts": True}),
        (FLASH, "low", {"thinkingLevel": "low", "includeThoughts": True}),
        (FLASH, "medium", {"thinkingLevel": "medium", "includeThoughts": True}),
        (FLASH, "max", {"thinkingLevel": "high", "includeThoughts": True}),
        ("gemini-3.1-pro-preview", "minimal", {"thinkingLevel": "low", "includeThoughts": True}),
        ("gemini-pro-latest", "xhigh", {"thinkingLevel": "high", "includeThoughts": True}),
        (OLD_FLASH, "none", {"thinkingBudget": 0}),
        (OLD_FLASH, "low", {"thinkingBudget": 1024, "includeThoughts": True}),
        (OLD_PRO, "medium", {"thinkingBudget": 8192, "includeThoughts": True}),
        (OLD_PRO, "high", {"thinkingBudget": 24_576, "includeThoughts": True}),
        (OLD_PRO, None, {"includeThoughts": True}),
    ],
)
def test_the_effort_of_reasoning(model: str, effort: str | None, expected: dict[str, Any]) -> None:
    assert thinking(model, reasoning_effort=effort) == expected


def test_the_callers_effort_comes_before_the_routes() -> None:
    way = route("gemini", model=FLASH, reasoning=True, reasoning_effort="minimal")
    asked = [chat(), chat(reasoning_effort="high")]

    payloads = [Gemini().payload(request, way, None, Call(5)) for request in asked]

    levels = [p["generationConfig"]["thinkingConfig"]["thinkingLevel"] for p in payloads]
    assert levels == ["minimal", "high"]


@pytest.mark.parametrize("alias", ["gemini-pro", "gemini-1.5-pro"])
def test_what_the_documentation_sends_is_taken_and_thought_about_least(alias: str) -> None:
    request = chat(model=alias, temperature=0.2, max_tokens=5)
    ways = [way for way in catalog.models[alias].routes if way.provider == "gemini"]

    for way in ways:
        Gemini().check(request, way)
        found = Gemini().payload(request, way, None, Call(5))["generationConfig"]
        assert (found["temperature"], found["maxOutputTokens"]) == (0.2, 5)
        assert found["thinkingConfig"]["thinkingLevel"] in ("minimal", "low")
    assert ways[0].upstream.id == "gemini-3.8-flash"


# ---- What is refused


@pytest.mark.parametrize(
    ("model", "parameters", "param"),
    [
        (FLASH, {"logit_bias": {"1": 5}}, "logit_bias"),
        (FLASH, {"functions": [{"name": "f"}]}, "functions"),
        (FLASH, {"tools": TOOLS, "parallel_tool_calls": False}, "parallel_tool_calls"),
        (FLASH, {"tools": [{"type": "custom", "custom": {"name": "f"}}]}, "tools[0]"),
        (FLASH, {"reasoning_effort": "none"}, "reasoning_effort"),
        (OLD_PRO, {"reasoning_effort": "none"}, "reasoning_effort"),
        (
            OLD_FLASH,
            {"tools": TOOLS, "response_format": {"type": "json_object"}},
            "response_format",
        ),
        (FLASH, {"n": 9}, "n"),
        (FLASH, {"provider": {"order": ["a"]}}, "provider"),
        (
            FLASH,
            {"messages": [user([{"type": "file", "file": {"file_id": "a"}}])]},
            "messages[0].content[0]",
        ),
        (
            FLASH,
            {
                "messages": [
                    user(),
                    {"role": "assistant", "tool_calls": [{"id": "a", "type": "custom"}]},
                ]
            },
            "messages[1].tool_calls[0]",
        ),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(
    model: str, parameters: dict[str, Any], param: str
) -> None:
    with pytest.raises(UnsupportedParameter) as refused:
        sent(model, **parameters)

    assert refused.value.param == param


@pytest.mark.parametrize(
    ("word", "parameters"),
    [
        ("sampling", {"temperature": 0.2}),
        ("sampling", {"presence_penalty": 1}),
        ("logprobs", {"logprobs": True}),
        ("n", {"n": 2}),
        ("stop", {"stop": "END"}),
        ("seed", {"seed": 1}),
        ("tools", {"tools": TOOLS}),
        ("json_object", {"response_format": {"type": "json_object"}}),
        ("reasoning_effort", {"reasoning_effort": "low"}),
        ("images", {"messages": [user([{"type": "image_url", "image_url": {"url": PIXEL}}])]}),
    ],
)
def test_what_a_model_lacks_is_refused(word: str, parameters: dict[str, Any]) -> None:
    request = chat(**parameters)

    Gemini().check(request, route("gemini", frozenset({word}), model=FLASH))
    with pytest.raises(UnsupportedParameter):
        Gemini().check(request, route("gemini", frozenset({"x"}), model=FLASH))


def test_json_beside_tools_is_taken_from_the_third_generation_on() -> None:
    assert config(tools=TOOLS, response_format={"type": "json_object"}) == {
        "responseMimeType": "application/json"
    }


# ---- Over the wire


def complete(upstream: Upstream, said: Any, **parameters: Any) -> dict[str, Any]:
    upstream.script({"json": said})
    way = route("gemini", model=FLASH)
    return Gemini().complete(chat(**parameters), way, None, "a-key", Call(10))


def stream(upstream: Upstream, *events: Any) -> list[dict[str, Any]]:
    upstream.script({"events": [json.dumps(event) for event in events]})
    return list(Gemini().stream(chat(), route("gemini", model=FLASH), None, "a-key", Call(10)))


def assembled(chunks: list[dict[str, Any]]) -> dict[str, Any]:
    assembly = Assembly()
    for chunk in chunks:
        assembly.add(chunk)
    (choice,) = assembly.completion()["choices"]
    return dict(choice)


def parts(*found: dict[str, Any], reason: str | None = "STOP", **more: Any) -> dict[str, Any]:
    """Return an answer of these parts."""
    said = gemini_said(None, reason)
    said["candidates"][0]["content"] = {"role": "model", "parts": list(found)}
    said["candidates"][0] |= more
    return said


def test_the_model_is_in_the_path_and_the_key_in_a_header(upstream: Upstream) -> None:
    complete(upstream, gemini_said("Hi", "STOP"))
    stream(upstream, gemini_said("Hi", "STOP"))

    plain, streamed = upstream.calls()
    assert plain["path"] == f"/gemini/models/{FLASH}:generateContent"
    assert streamed["path"] == f"/gemini/models/{FLASH}:streamGenerateContent?alt=sse"
    for call in (plain, streamed):
        assert call["headers"]["x-goog-api-key"] == "a-key"
        assert "authorization" not in call["headers"]


def test_a_strange_model_stays_in_its_place(upstream: Upstream) -> None:
    way = route("gemini", model="../x?y#z")

    Gemini().complete(chat(), way, None, "a-key", Call(10))

    (call,) = upstream.calls()
    assert call["path"] == "/gemini/models/..%2Fx%3Fy%23z:generateContent"


def test_texts_are_one_and_thoughts_are_reasoning(upstream: Upstream) -> None:
    said = parts(
        {"text": "Hm", "thought": True},
        {"text": ".", "thought": True},
        {"text": "He"},
        {"text": "llo"},
        {"text": "", "thoughtSignature": "abc"},
    )

    whole, streamed = complete(upstream, said), assembled(stream(upstream, said))

    for choice in (whole["choices"][0], streamed):
        assert choice["message"]["content"] == "Hello"
        assert choice["message"]["reasoning_content"] == "Hm."
        assert choice["finish_reason"] == "stop"


CALL = {"functionCall": {"name": "f", "args": {"x": 1}}, "thoughtSignature": "abc"}


def test_a_call_is_openais_and_keeps_its_signature(upstream: Upstream) -> None:
    other = {"functionCall": {"name": "g", "id": "its-own"}}

    whole = complete(upstream, parts(CALL, other))["choices"][0]
    streamed = assembled(stream(upstream, parts(CALL, other)))

    for choice in (whole, streamed):
        first, second = choice["message"]["tool_calls"]
        assert first["id"].startswith("call_")
        assert first["function"] == {"name": "f", "arguments": '{"x":1}'}
        assert first["extra_content"] == {"google": {"thought_signature": "abc"}}
        assert second == {
            "id": "its-own",
            "type": "function",
            "function": {"name": "g", "arguments": "{}"},
        }
        assert choice["message"]["content"] is None
        assert choice["finish_reason"] == "tool_calls"


@pytest.mark.parametrize(
    "events",
    [
        [parts(CALL, reason=None), parts({"text": ""})],
        [parts({"text": ""}), parts(CALL, reason=None)],
        [parts(CALL), gemini_said(None, None)],
    ],
)
def test_a_stream_that_called_ends_with_its_calls(
    upstream: Upstream, events: list[dict[str, Any]]
) -> None:
    choice = assembled(stream(upstream, *events))

    assert [call["function"]["name"] for call in choice["message"]["tool_calls"]] == ["f"]
    assert choice["finish_reason"] == "tool_calls"


def test_calls_of_several_events_are_several_calls(upstream: Upstream) -> None:
    choice = assembled(stream(upstream, parts(CALL, reason=None), parts(CALL)))

    assert len({call["id"] for call in choice["message"]["tool_calls"]}) == 2


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("STOP", "stop"),
        ("MAX_TOKENS", "length"),
        ("SAFETY", "content_filter"),
        ("RECITATION", "content_filter"),
        ("BLOCKLIST", "content_filter"),
        ("PROHIBITED_CONTENT", "content_filter"),
        ("SPII", "content_filter"),
        ("IMAGE_SAFETY", "content_filter"),
        ("BRAND_NEW", "stop"),
        ("OTHER", "stop"),
        ("MALFORMED_FUNCTION_CALL", "stop"),
    ],
)
def test_why_an_answer_with_a_text_ended(upstream: Upstream, reason: str, expected: str) -> None:
    said = gemini_said("Hi", reason)

    assert complete(upstream, said)["choices"][0]["finish_reason"] == expected
    assert assembled(stream(upstream, said))["finish_reason"] == expected


@pytest.mark.parametrize("reason", ["STOP", "MAX_TOKENS", "SAFETY", "BRAND_NEW"])
@pytest.mark.parametrize("content", [{}, {"parts": []}, None])
def test_an_answer_may_be_empty(upstream: Upstream, reason: str, content: Any) -> None:
    said = gemini_said(None, reason)
    said["candidates"][0]["content"] = content

    assert complete(upstream, said)["choices"][0]["message"]["content"] == ""
    assert assembled(stream(upstream, said))["message"]["content"] == ""


@pytest.mark.parametrize("reason", sorted(answers.FAILURES))
def test_nothing_usable_is_a_failure(upstream: Upstream, reason: str) -> None:
    said = parts({"text": "Hm.", "thought": True}, reason=reason)

    for ask in (complete, stream):
        with pytest.raises(ProviderFailed):
            ask(upstream, said)


@pytest.mark.parametrize(
    ("feedback", "told"),
    [
        ({"blockReason": "SAFETY"}, "SAFETY"),
        ({"blockReasonMessage": "Not this."}, "Not this."),
        ({"blockReason": "OTHER", "blockReasonMessage": "Not this."}, "OTHER: Not this."),
    ],
)
@pytest.mark.parametrize("candidates", [{}, {"candidates": []}])
def test_a_refused_prompt_is_against_the_policy(
    upstream: Upstream, feedback: dict[str, Any], told: str, candidates: dict[str, Any]
) -> None:
    for ask in (complete, stream):
        with pytest.raises(ContentPolicyViolation, match=told):
            ask(upstream, candidates | {"promptFeedback": feedback})


def test_thoughts_are_counted_with_what_is_said(upstream: Upstream) -> None:
    counts = {
        "promptTokenCount": 10,
        "toolUsePromptTokenCount": 5,
        "cachedContentTokenCount": 4,
        "candidatesTokenCount": 3,
        "thoughtsTokenCount": 20,
        "totalTokenCount": 38,
    }

    usage = complete(upstream, gemini_said("Hi", "STOP", usageMetadata=counts))["usage"]

    assert usage == {
        "prompt_tokens": 15,
        "completion_tokens": 23,
        "total_tokens": 38,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 20},
    }


@pytest.mark.parametrize("counts", [None, {}, [], {"promptTokenCount": "7"}, {"trafficType": "X"}])
def test_what_was_not_counted_has_no_usage(upstream: Upstream, counts: Any) -> None:
    assert "usage" not in complete(upstream, gemini_said("Hi", "STOP", usageMetadata=counts))


def test_logprobs_are_openais(upstream: Upstream) -> None:
    tokens = [{"token": "Hé", "logProbability": -0.5}, {"token": "!", "logProbability": -1}]
    top = [{"candidates": tokens}]
    said = parts({"text": "Hé!"}, logprobsResult={"chosenCandidates": tokens, "topCandidates": top})
    first = {"token": "Hé", "logprob": -0.5, "bytes": [72, 195, 169]}
    second = {"token": "!", "logprob": -1, "bytes": [33]}

    whole = complete(upstream, said)["choices"][0]["logprobs"]

    assert whole["content"] == [
        first | {"top_logprobs": [first, second]},
        second | {"top_logprobs": []},
    ]
    assert assembled(stream(upstream, said))["logprobs"]["content"] == whole["content"]


def test_candidates_are_choices(upstream: Upstream) -> None:
    said = gemini_said("One", "STOP")
    said["candidates"] += gemini_said("Two", "MAX_TOKENS")["candidates"]
    for candidate in said["candidates"]:
        del candidate["index"]

    choices = complete(upstream, said, n=2)["choices"]

    assert [choice["index"] for choice in choices] == [0, 1]
    assert [choice["message"]["content"] for choice in choices] == ["One", "Two"]


def test_a_picture_comes_along(upstream: Upstream) -> None:
    said = parts({"inlineData": {"mimeType": "image/png", "data": "aGk="}})

    image = {"type": "image_url", "image_url": {"url": PIXEL}}
    assert complete(upstream, said)["choices"][0]["message"]["images"] == [image]
    assert assembled(stream(upstream, said))["message"]["images"] == [image]


@pytest.mark.parametrize("head", ["data: ", "data:", ""])
@pytest.mark.parametrize("code", [499, 503])
def test_an_error_after_the_reason_is_still_one(upstream: Upstream, head: str, code: int) -> None:
    said, error = json.dumps(gemini_said("Hi", "STOP")), {"error": {"code": code, "message": "No."}}
    body = f"data: {said}\r\n\r\n{head}{json.dumps(error)}\r\n\r\n"
    upstream.script({"body": body, "headers": {"content-type": "text/event-stream"}})

    with pytest.raises(ProviderFailed):
        list(Gemini().stream(chat(), route("gemini", model=FLASH), None, "a-key", Call(10)))


@pytest.mark.parametrize(
    "said",
    [
        {"candidates": ["text"]},
        {"candidates": {}},
        parts({"functionCall": {"args": {}}}),
        parts({"functionCall": None}),
        {"error": [1]},
    ],
)
def test_what_is_no_answer_is_a_failure(upstream: Upstream, said: Any) -> None:
    for ask in (complete, stream):
        with pytest.raises(LikeDoError) as failed:
            ask(upstream, said)
        assert type(failed.value) is ProviderFailed


@pytest.mark.parametrize("part", [None, "text", {"text": 5}, {"text": None}, {"brand": "new"}])
def test_a_part_that_says_nothing_to_us_is_passed_over(upstream: Upstream, part: Any) -> None:
    said = parts(part, {"text": "Hi"})

    assert complete(upstream, said)["choices"][0]["message"]["content"] == "Hi"


# ---- Recorded requests


def recorded() -> list[Case]:
    return recordings.some(
        [
            Case(recording, exchange)
            for recording in recordings.load("gemini")
            for exchange in recording.exchanges
            if is_geminis(exchange) and gemini_recordings.request(exchange)
        ]
    )


def test_what_others_asked_gemini_is_what_we_ask(subtests: pytest.Subtests) -> None:
    for case in recorded():
        with subtests.test(str(case)):
            request = chat(**gemini_recordings.request(case.exchange) or {})
            way = route("gemini", model=case.recording.model)

            ours = Gemini().payload(request, way, None, Call(5))

            theirs = gemini_recordings.plain(case.exchange["request"]["body"])
            assert gemini_recordings.essence(ours) == gemini_recordings.essence(theirs)
