"""What OpenAI's shape knows is kept, what only vendors know is not."""

import json
import time
from typing import Any

import pytest

from models.errors import InvalidRequest, LikeDoError, ProviderBusy, ProviderFailed
from providers.wire import answer as wire_answer
from tests.providers.wire.answers import F, completion, read


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

    counted = wire_answer.usage(usage)

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
        ({"error": {"code": 429, "message": "Slow."}}, ProviderBusy),
        ({"error": {"code": 502, "message": "Broken."}, "choices": []}, ProviderFailed),
        (completion(error={"code": 400, "message": "Bad."}), InvalidRequest),
        (completion(finish_reason="error"), ProviderFailed),
        (completion(finish_reason="insufficient_system_resource"), ProviderFailed),
        (b"Service unavailable", ProviderFailed),
        (b"\xff\xfe", ProviderFailed),
    ],
)
def test_a_failure_in_a_200_is_a_failure(body: Any, kind: type[LikeDoError]) -> None:
    with pytest.raises(LikeDoError) as raised:
        read(body)

    assert type(raised.value) is kind


# ---- Fields that are not of their type


def said(message: dict[str, Any] | None = None, **choice: Any) -> dict[str, Any]:
    """Return the choice that is read out of such a message and choice."""
    return dict(read(completion(message, **choice))["choices"][0])


NUMBERS = [True, 1.5, float(2**70), "1", -1, 10**9 + 1, None, [1], {}]


@pytest.mark.parametrize("count", NUMBERS, ids=str)
@pytest.mark.parametrize("field", ["prompt_tokens", "completion_tokens"])
def test_a_count_that_is_none_makes_the_usage_none(field: str, count: Any) -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3} | {field: count}

    assert "usage" not in read(completion() | {"usage": usage})


@pytest.mark.parametrize("count", NUMBERS, ids=str)
def test_a_total_or_a_detail_that_is_no_count_is_mended(count: Any) -> None:
    usage = {
        "prompt_tokens": 1,
        "completion_tokens": 2,
        "total_tokens": count,
        "prompt_cache_hit_tokens": count,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": count},
        "completion_tokens_details": count,
    }

    counted = read(completion() | {"usage": usage})["usage"]

    assert (counted["prompt_tokens"], counted["total_tokens"]) == (1, 3)
    assert counted["prompt_tokens_details"].get("audio_tokens") is None
    assert counted["prompt_tokens_details"]["cached_tokens"] == 0
    assert counted.get("completion_tokens_details", {}) == {}


@pytest.mark.parametrize(
    "message",
    [
        {"content": 1},
        {"content": True},
        {"content": {"text": "Hi."}},
        {"tool_calls": "f"},
        {"tool_calls": {"0": F}},
        {"tool_calls": [None]},
        {"tool_calls": ["f"]},
        {"tool_calls": [{"id": "c", "type": "function"}]},
        {"tool_calls": [{"function": "f"}]},
        {"tool_calls": [{"function": {"name": "f"}}]},
        {"tool_calls": [{"function": {"name": 1, "arguments": "{}"}}]},
        {"tool_calls": [{"function": {"name": "f", "arguments": {}}}]},
        {"tool_calls": [{"function": F}, {"function": {"name": "f", "arguments": None}}]},
        {"tool_calls": [{"type": "custom", "custom": {"name": "f"}}]},
        {"function_call": "f"},
        {"function_call": [F]},
        {"function_call": {"name": "f"}},
    ],
    ids=str,
)
def test_a_message_that_no_client_could_read_is_a_failure(message: dict[str, Any]) -> None:
    with pytest.raises(ProviderFailed):
        said(message)


def test_calls_and_parts_that_are_sound_are_kept() -> None:
    custom = {"id": "c", "type": "custom", "custom": {"name": "f", "input": "x"}}
    parts = [{"type": "text", "text": "Hi."}]

    message = said({"content": parts, "tool_calls": [custom], "function_call": F})["message"]

    assert message["content"] == parts
    assert message["tool_calls"] == [custom]
    assert message["function_call"] == F
    assert said({"tool_calls": None, "function_call": None})["message"]["content"] == "Hi."


def test_a_choice_is_mended() -> None:
    wrong = {"index": "0", "logprobs": [], "finish_reason": 7}

    assert said({"role": "model"}, **wrong) == {
        "index": 0,
        "message": {"role": "assistant", "content": "Hi."},
        "logprobs": None,
        "finish_reason": None,
    }


@pytest.mark.parametrize("index", [None, "1", 1.0, True, -1, 10**15])
def test_an_index_that_is_none_is_the_choices_place(index: Any) -> None:
    choice = completion(index=index)["choices"][0]

    choices = read({"choices": [choice, choice]})["choices"]

    assert [type(choice["index"]) for choice in choices] == [int, int]
    assert [choice["index"] for choice in choices] == [0, 1]


def test_what_says_nothing_to_a_client_is_left_out() -> None:
    fields = ("refusal", "annotations", "audio", "reasoning_content", "images", "reasoning")

    message = said(dict.fromkeys(fields, 7))["message"]

    assert message == {"role": "assistant", "content": "Hi."}


@pytest.mark.parametrize("wrong", [None, "", 0, 7.5, True, [], {"a": 1}], ids=str)
def test_the_frame_of_an_answer_is_mended(wrong: Any) -> None:
    fields = ("id", "created", "system_fingerprint", "service_tier", "model")

    answer = read(completion({"tool_calls": [{"id": wrong, "type": wrong, "function": F}]})
                  | dict.fromkeys(fields, wrong))  # fmt: skip

    (call,) = answer["choices"][0]["message"]["tool_calls"]
    assert answer["id"].startswith("chatcmpl-")
    assert call["id"].startswith("call_")
    assert call["type"] == "function"
    assert abs(answer["created"] - time.time()) < 10
    assert all(isinstance(answer.get(field, ""), str) for field in fields[2:])


@pytest.mark.parametrize("created", [-1, 10**10 + 1, 1_767_225_600_000, 1e9, "1767225600"])
def test_a_moment_that_cannot_be_is_now(created: Any) -> None:
    assert abs(read(completion() | {"created": created})["created"] - time.time()) < 10
