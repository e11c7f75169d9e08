"""The parameters of a chat in Gemini's words, and those that it cannot honour."""

from typing import Any

import pytest

from config.catalog.load import catalog
from models.errors import UnsupportedParameter
from net.call import Call
from providers.gemini.chat import Gemini
from providers.wire.image_room import Room
from tests.providers.gemini.asking import (
    FLASH,
    OLD_FLASH,
    OLD_PRO,
    PIXEL,
    SCHEMA,
    TOOLS,
    config,
    sent,
    thinking,
    user,
)
from tests.providers.requests_and_routes import chat, route

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
    assert "generationConfig" not in Gemini().payload(chat(), bare, None, Room(Call(5)))


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

    payloads = [Gemini().payload(request, way, None, Room(Call(5))) for request in asked]

    levels = [p["generationConfig"]["thinkingConfig"]["thinkingLevel"] for p in payloads]
    assert levels == ["minimal", "high"]


@pytest.mark.parametrize("alias", ["gemini-pro", "gemini-1.5-pro"])
def test_what_the_documentation_sends_is_taken_and_thought_about_least(alias: str) -> None:
    request = chat(model=alias, temperature=0.2, max_tokens=5)
    ways = [way for way in catalog.models[alias].routes if way.provider == "gemini"]

    for way in ways:
        Gemini().check(request, way)
        found = Gemini().payload(request, way, None, Room(Call(5)))["generationConfig"]
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
            {"messages": [user([{"type": "file", "file": {"filename": "a.pdf"}}])]},
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
