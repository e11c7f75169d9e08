"""What OpenAI's shape knows is kept, what only vendors know is not."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import errors
from providers import answers
from providers.http import Response


def read(body: Any) -> dict[str, Any]:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return answers.chat_completion("vendor", Response(200, {}, content))


def completion(message: dict[str, Any] | None = None, **choice: Any) -> dict[str, Any]:
    said = {"role": "assistant", "content": "Hi."} | (message or {})
    return {"choices": [{"index": 0, "message": said, "finish_reason": "stop"} | choice]}


def test_a_bare_answer_is_made_whole() -> None:
    answer = read({"choices": [{"message": {"content": "Hi."}}]})

    assert answer["id"].startswith("chatcmpl-")
    assert answer["object"] == "chat.completion"
    assert isinstance(answer["created"], int)
    assert "usage" not in answer
    assert answer["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hi."},
            "logprobs": None,
            "finish_reason": None,
        }
    ]


def test_vendors_keys_are_left_out() -> None:
    body = completion({"reasoning": None, "prefix": True}, native_finish_reason="end_turn")
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "cost": 0.1, "is_byok": False}

    answer = read(body | {"provider": "Acme", "user_id": "u", "usage": usage})

    assert answer.keys() == {"id", "object", "created", "choices", "usage"}
    assert answer["choices"][0].keys() == {"index", "message", "logprobs", "finish_reason"}
    assert answer["choices"][0]["message"] == {"role": "assistant", "content": "Hi."}
    assert answer["usage"] == {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}


def test_what_openai_knows_is_kept() -> None:
    message = {
        "refusal": None,
        "annotations": [{"type": "url_citation"}],
        "audio": {"id": "a"},
        "reasoning_content": "Hm.",
        "images": [{"type": "image_url"}],
        "reasoning_details": [{"type": "reasoning.text"}],
    }
    top = {"system_fingerprint": "fp", "service_tier": "default", "model": "m-2026"}
    logprobs = {"content": [{"token": "Hi", "logprob": -0.1}]}

    answer = read(completion(message, logprobs=logprobs) | top)

    assert top.items() <= answer.items()
    assert message.items() <= answer["choices"][0]["message"].items()
    assert answer["choices"][0]["logprobs"] == logprobs


def test_reasoning_has_one_name() -> None:
    answer = read(completion({"reasoning": "Hm."}))

    message = answer["choices"][0]["message"]
    assert message["reasoning_content"] == "Hm."
    assert "reasoning" not in message


def test_a_tool_call_always_has_an_id() -> None:
    function = {"name": "f", "arguments": "{}"}
    calls = [
        {"id": "", "type": "function", "function": function},
        {"id": "c", "function": function},
    ]

    made = read(completion({"tool_calls": calls}))["choices"][0]["message"]["tool_calls"]

    assert made[0]["id"].startswith("call_")
    assert made[1] == {"id": "c", "type": "function", "function": function}


def test_deepseeks_count_of_cached_tokens_is_found() -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 1, "prompt_cache_hit_tokens": 4}

    counted = answers.usage(usage)

    assert counted is not None
    assert counted["prompt_tokens_details"] == {"cached_tokens": 4}


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": 1}, {"prompt_tokens": "1"}, 3])
def test_tokens_that_nobody_counted_are_not_made_up(usage: Any) -> None:
    assert "usage" not in read(completion() | {"usage": usage})


@pytest.mark.parametrize(
    ("reason", "ours"),
    [("stop", "stop"), ("length", "length"), ("end_turn", "stop"), (None, None), ("", None)],
)
def test_a_reason_is_one_of_openais(reason: Any, ours: str | None) -> None:
    assert read(completion(finish_reason=reason))["choices"][0]["finish_reason"] == ours


def test_white_space_may_come_first() -> None:
    assert read(b"\n   \n\n" + json.dumps(completion()).encode())["choices"]


def test_half_a_character_does_not_cost_the_answer() -> None:
    body = json.dumps(completion({"content": "HALF ok \U0001f600"})).replace("HALF", "\\ud83d")

    content = read(body.encode())["choices"][0]["message"]["content"]

    assert content == "\ufffd ok \U0001f600"


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"error": {"code": 429, "message": "Slow."}}, errors.ProviderBusy),
        ({"error": {"code": 502, "message": "Broken."}, "choices": []}, errors.ProviderFailed),
        (completion(error={"code": 400, "message": "Bad."}), errors.InvalidRequest),
        (completion(finish_reason="error"), errors.ProviderFailed),
        (completion(finish_reason="insufficient_system_resource"), errors.ProviderFailed),
        (b"Service unavailable", errors.ProviderFailed),
        (b"\xff\xfe", errors.ProviderFailed),
    ],
)
def test_a_failure_in_a_200_is_a_failure(body: Any, kind: type[errors.LikeDoError]) -> None:
    with pytest.raises(errors.LikeDoError) as raised:
        read(body)

    assert type(raised.value) is kind


KEYS = ["choices", "message", "error", "usage", "tool_calls", "content", "finish_reason", "code",
        "prompt_tokens", "completion_tokens", "prompt_cache_hit_tokens", "id", "index",
        "prompt_tokens_details", "function"]  # fmt: skip
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=6)
    ),
    max_leaves=30,
)
MESSAGE = st.dictionaries(st.sampled_from(KEYS), ANYTHING)
CHOICES = st.lists(st.fixed_dictionaries({"message": MESSAGE, "finish_reason": ANYTHING}))


@given(ANYTHING | st.fixed_dictionaries({"choices": CHOICES, "usage": ANYTHING, "id": ANYTHING}))
def test_nothing_that_comes_is_a_crash(body: Any) -> None:
    try:
        answer = read(body)
    except errors.LikeDoError:
        return

    assert answer["choices"]
