"""DeepSeek: thinking on and off, JSON by a schema it does not know, and plain text only."""

from typing import Any

import pytest

from models.errors import UnsupportedParameter
from providers.deepseek import DeepSeek
from tests.providers.requests_and_routes import chat, route

OFF: dict[str, Any] = {"thinking": {"type": "disabled"}}
ON: dict[str, Any] = {"thinking": {"type": "enabled"}}
SCHEMA = {"type": "object", "properties": {"colour": {"type": "string"}}}
AS_SCHEMA = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}


def sent(extra: dict[str, Any] | None = None, **parameters: Any) -> dict[str, Any]:
    way = route("deepseek", **(OFF if extra is None else extra))
    request = chat(**parameters)
    DeepSeek().check(request, way)
    return DeepSeek().payload(request, way, None)


@pytest.mark.parametrize("parameter", ["n", "seed", "logit_bias", "functions"])
def test_what_no_model_of_it_knows_is_refused(parameter: str) -> None:
    value = {"n": 2, "seed": 1, "logit_bias": {"1": 1}, "functions": [{"name": "f"}]}[parameter]

    with pytest.raises(UnsupportedParameter) as refused:
        sent(**{parameter: value})

    assert refused.value.param == parameter


def test_calls_one_after_another_cannot_be_had() -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]

    assert "parallel_tool_calls" not in sent(tools=tools, parallel_tool_calls=True)
    with pytest.raises(UnsupportedParameter, match="parallel_tool_calls"):
        sent(tools=tools, parallel_tool_calls=False)


def test_images_are_refused() -> None:
    image = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}

    with pytest.raises(UnsupportedParameter, match="content"):
        sent(messages=[{"role": "user", "content": [image]}])


def test_the_role_of_old_functions_is_refused() -> None:
    with pytest.raises(UnsupportedParameter) as refused:
        sent(messages=[{"role": "function", "name": "f", "content": "1"}])

    assert refused.value.param == "messages[0].role"


def test_harmless_parameters_stay_here() -> None:
    payload = sent(user="u", metadata={"a": "b"}, store=True, service_tier="auto", n=1)

    assert payload.keys() == {"model", "messages", "temperature", "thinking"}


def test_a_developer_is_a_system_and_parts_are_one_text() -> None:
    parts = [{"type": "text", "text": "Be"}, {"type": "text", "text": "brief."}]

    payload = sent(
        messages=[{"role": "developer", "content": parts}, {"role": "user", "content": "Hi"}]
    )

    assert payload["messages"] == [
        {"role": "system", "content": "Be\nbrief."},
        {"role": "user", "content": "Hi"},
    ]


# ---- JSON


def test_a_schema_becomes_a_wish() -> None:
    payload = sent(response_format=AS_SCHEMA)

    assert payload["response_format"] == {"type": "json_object"}
    wish, question = payload["messages"]
    assert wish["role"] == "system"
    assert "JSON" in wish["content"]
    assert '"colour":{"type":"string"}' in wish["content"]
    assert question["content"] == "Hello!"


def test_a_prompt_for_json_speaks_of_json() -> None:
    wanted = {"type": "json_object"}
    spoken = [{"role": "user", "content": "In JSON, please."}]

    assert len(sent(response_format=wanted)["messages"]) == 2
    assert sent(response_format=wanted, messages=spoken)["messages"] == spoken


# ---- Thinking


@pytest.mark.parametrize(
    ("extra", "effort", "thinking", "mapped"),
    [
        (OFF, None, "disabled", None),
        (ON, None, "enabled", None),
        (OFF, "none", "disabled", None),
        (ON, "none", "disabled", None),
        (OFF, "low", "enabled", "low"),
        (OFF, "minimal", "enabled", "low"),
        (ON, "medium", "enabled", "high"),
        (ON, "high", "enabled", "high"),
        (ON, "xhigh", "enabled", "max"),
        ({"reasoning_effort": "none"}, None, "disabled", None),
        ({"reasoning_effort": "none"}, "high", "enabled", "high"),
    ],
)
def test_the_callers_effort_comes_before_the_routes(
    extra: dict[str, Any], effort: str | None, thinking: str, mapped: str | None
) -> None:
    payload = sent(extra, reasoning_effort=effort)

    assert payload["thinking"] == {"type": thinking}
    assert payload.get("reasoning_effort") == mapped
    assert ("temperature" in payload) == (thinking == "disabled")


def test_a_temperature_is_refused_while_thinking_and_taken_otherwise() -> None:
    assert sent(OFF, temperature=0.2)["temperature"] == 0.2

    for parameters in ({"reasoning_effort": "high"}, {"thinking": {"type": "enabled"}}):
        with pytest.raises(UnsupportedParameter, match="temperature"):
            sent(OFF, temperature=0.2, **parameters)


def test_a_model_that_thinks_by_itself_is_sent_no_temperature() -> None:
    payload = DeepSeek().payload(chat(), route("deepseek", reasoning=True), None)

    assert "temperature" not in payload


def test_thoughts_go_back_only_between_a_tool_call_and_its_answer() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    calling = {
        "role": "assistant",
        "content": None,
        "tool_calls": [call],
        "reasoning_content": "I need f.",
    }
    answer = {"role": "tool", "tool_call_id": "c", "content": "1"}
    question = {"role": "user", "content": "What is f?"}
    reply = {"role": "assistant", "content": "It is 1.", "reasoning_content": "So 1."}

    within = sent(ON, messages=[question, calling, answer])["messages"]
    after = sent(ON, messages=[question, calling, answer, reply, question])["messages"]

    assert within[1]["reasoning_content"] == "I need f."
    assert not any("reasoning_content" in message for message in after)
