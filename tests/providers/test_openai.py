"""What OpenAI wants otherwise than the rest."""

import pytest

from models.errors import UnsupportedParameter
from providers.deepseek import DeepSeek
from providers.openai import OpenAI
from providers.parameters import DEPENDS_ON, EVERYTHING
from tests.providers.requests_and_routes import chat, route

REASONING = frozenset({"tools", "reasoning_effort", "json_schema", "n"})


def test_reasoning_models_know_the_limit_by_its_new_name() -> None:
    request = chat(max_tokens=50)

    classic = OpenAI().payload(request, route(), None)
    reasoning = OpenAI().payload(request, route(takes=REASONING, reasoning=True), None)

    assert (classic["max_tokens"], reasoning["max_completion_tokens"]) == (50, 50)
    assert "max_completion_tokens" not in classic
    assert "max_tokens" not in reasoning


def test_reasoning_models_are_sent_no_sampling_at_all() -> None:
    request = chat(temperature=1, top_p=1, presence_penalty=0, stop=None, n=2)

    sent = OpenAI().payload(request, route(takes=REASONING, reasoning=True), None)

    assert sent.keys() == {"model", "messages", "n"}


def test_a_successor_that_is_made_to_reason_has_no_temperature() -> None:
    way = route(takes=REASONING, reasoning=True, reasoning_effort="none")

    with pytest.raises(UnsupportedParameter, match="temperature"):
        OpenAI().check(chat(temperature=0.2, reasoning_effort="high"), way)


def test_a_reasoning_model_refuses_a_temperature() -> None:
    with pytest.raises(UnsupportedParameter, match="other than its default"):
        OpenAI().check(chat(temperature=0.2), route(takes=REASONING, reasoning=True))


def test_metadata_goes_only_with_what_is_stored() -> None:
    kept = OpenAI().payload(chat(metadata={"a": "b"}, store=True), route(), None)
    dropped = OpenAI().payload(chat(metadata={"a": "b"}), route(), None)

    assert kept["metadata"] == {"a": "b"}
    assert "metadata" not in dropped


def test_the_thoughts_of_another_provider_are_not_sent() -> None:
    said = {"role": "assistant", "content": "Hi.", "reasoning_content": "Hm."}
    request = chat(messages=[said, {"role": "user", "content": "Go on."}])

    sent = OpenAI().payload(request, route(), None)

    assert sent["messages"][0] == {"role": "assistant", "content": "Hi."}


def test_openrouters_preference_is_refused() -> None:
    request = chat(provider={"sort": "price"})

    with pytest.raises(UnsupportedParameter) as refused:
        OpenAI().check(request, route(takes=EVERYTHING))

    assert refused.value.param == "provider"


CUSTOM = {"type": "custom", "custom": {"name": "shell", "format": {"type": "text"}}}
CHOICES = [
    {"type": "custom", "custom": {"name": "shell"}},
    {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [CUSTOM]}},
]


@pytest.mark.parametrize("choice", CHOICES, ids=lambda choice: choice["type"])
def test_custom_tools_are_openais_alone(choice: dict[str, object]) -> None:
    request = chat(tools=[CUSTOM], tool_choice=choice)

    OpenAI().check(request, route())
    sent = OpenAI().payload(request, route(), None)

    assert (sent["tools"], sent["tool_choice"]) == ([CUSTOM], choice)
    with pytest.raises(UnsupportedParameter, match=r"tools\[0\]"):
        DeepSeek().check(request, route("deepseek"))


def test_what_speaks_of_tools_that_are_not_there_is_not_sent() -> None:
    silent = chat(parallel_tool_calls=True, tool_choice="none", function_call="none")
    speaking = chat(tools=[{"type": "function", "function": {"name": "f"}}], tool_choice="none")

    assert OpenAI().payload(silent, route(), None).keys().isdisjoint(DEPENDS_ON)
    assert OpenAI().payload(speaking, route(), None)["tool_choice"] == "none"
