"""Every recorded chat goes through its provider, and comes out as the vendor said it."""

from typing import Any

import pytest

from models.errors import LikeDoError, ProviderFailed
from providers.wire.chunks import Assembly
from tests.providers.gemini.recordings import given_id
from tests.providers.recorded_chats import (
    REFUSALS,
    TEXTS,
    asked_in,
    broken_off,
    cases,
    events,
    replay,
    said_in,
    same_message,
    streamed,
    streamed_cases,
    told,
    whole_prompts,
)
from tests.upstream import Upstream
from tokens.ceiling import prompt_ceiling


def test_an_answer_comes_out_as_the_vendor_gave_it(
    upstream: Upstream, subtests: pytest.Subtests
) -> None:
    for case in cases(answered=True):
        with subtests.test(str(case)):
            said = said_in(case.exchange)

            answer = replay(case, upstream)

            assert answer["object"] == "chat.completion"
            for name in ("id", "created", "model", "system_fingerprint"):
                if name in said or name == "system_fingerprint":
                    assert answer.get(name) == said.get(name), name
            assert len(answer["choices"]) == len(said["choices"])
            for choice, original in zip(answer["choices"], said["choices"], strict=True):
                assert choice["index"] == original["index"]
                assert choice["finish_reason"] == original.get("finish_reason")
                assert choice["logprobs"] == original.get("logprobs")
                same_message(choice["message"], original["message"])


def test_tokens_are_those_the_vendor_counted(upstream: Upstream, subtests: pytest.Subtests) -> None:
    for case in cases(answered=True):
        with subtests.test(str(case)):
            said = said_in(case.exchange)["usage"]

            usage = replay(case, upstream)["usage"]

            for field in ("prompt_tokens", "completion_tokens", "total_tokens"):
                assert usage[field] == said[field]
            for field in ("prompt_tokens_details", "completion_tokens_details"):
                assert (said.get(field) or {}).items() <= usage.get(field, {}).items()
            assert set(usage) <= {
                "prompt_tokens",
                "completion_tokens",
                "total_tokens",
                "prompt_tokens_details",
                "completion_tokens_details",
            }


def test_what_is_held_for_a_prompt_is_at_least_what_the_vendor_counted(
    subtests: pytest.Subtests,
) -> None:
    for case in whole_prompts():
        with subtests.test(str(case)):
            held = prompt_ceiling(asked_in(case.exchange) or {})

            assert held >= said_in(case.exchange)["usage"]["prompt_tokens"]


def test_a_refusal_is_of_the_right_class(upstream: Upstream, subtests: pytest.Subtests) -> None:
    for case in cases(answered=False):
        with subtests.test(str(case)):
            with pytest.raises(LikeDoError) as refused:
                replay(case, upstream)

            error = refused.value
            assert type(error) is REFUSALS[str(case.recording)]
            assert "***" not in error.message


# ---- Streams


def test_a_stream_comes_out_as_the_vendor_gave_it(
    upstream: Upstream, subtests: pytest.Subtests
) -> None:
    for case in streamed_cases():
        with subtests.test(str(case)):
            original = events(case.exchange)

            said = streamed(case, upstream)

            assert told(said) == told(original)
            for name in {"id", "created", "model"} & original[0].keys():
                assert {chunk[name] for chunk in said} == {original[0][name]}
            fingerprints = {chunk.get("system_fingerprint") for chunk in said}
            assert fingerprints == {original[0].get("system_fingerprint")}


def test_a_stream_has_openais_form(upstream: Upstream, subtests: pytest.Subtests) -> None:
    for case in streamed_cases():
        with subtests.test(str(case)):
            said = streamed(case, upstream)

            choices = [choice for chunk in said for choice in chunk["choices"]]
            indexes = {choice["index"] for choice in choices}
            finishes = [choice for choice in choices if choice["finish_reason"]]
            assert [choice["index"] for choice in choices if "role" in choice["delta"]] == sorted(
                indexes
            )
            assert sorted(choice["index"] for choice in finishes) == sorted(indexes)
            assert all(choice["delta"] == {} for choice in finishes)
            assert all(choice["delta"] or choice["finish_reason"] for choice in choices)


def test_the_tokens_of_a_stream_are_in_its_last_chunk(
    upstream: Upstream, subtests: pytest.Subtests
) -> None:
    for case in streamed_cases():
        with subtests.test(str(case)):
            counted = [event["usage"] for event in events(case.exchange) if event.get("usage")]

            *said, last = streamed(case, upstream)

            assert all("usage" not in chunk for chunk in said)
            assert ("usage" in last) == bool(counted)
            if counted:
                assert last["choices"] == []
                for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
                    assert last["usage"][name] == counted[-1][name]


def test_a_stream_adds_up_to_its_completion(upstream: Upstream, subtests: pytest.Subtests) -> None:
    for case in streamed_cases():
        with subtests.test(str(case)):
            assembly = Assembly()
            original = told(events(case.exchange))

            said = streamed(case, upstream)
            for chunk in said:
                assembly.add(chunk)

            whole = assembly.completion()
            assert whole.get("usage") == said[-1].get("usage")
            assert [choice["index"] for choice in whole["choices"]] == sorted(original)
            for choice in whole["choices"]:
                same_as_told(choice, original[choice["index"]])


def same_as_told(choice: dict[str, Any], original: dict[str, Any]) -> None:
    message = choice["message"]
    assert choice["finish_reason"] == original["reason"]
    for name in TEXTS:
        assert (message.get(name) or "") == original[name], name
    for name in ("annotations", "images"):
        assert message.get(name, []) == original[name], name
    calls = [
        {"id": given_id(call["id"])} | call["function"] for call in message.get("tool_calls", [])
    ]
    assert calls == list(original["calls"].values())
    called = message.get("function_call", {"name": "", "arguments": ""})
    assert called["name"] + called["arguments"] == original["function"]


def test_an_error_in_mid_stream_is_a_failure(upstream: Upstream, subtests: pytest.Subtests) -> None:
    for case in broken_off():
        with subtests.test(str(case)):
            with pytest.raises(LikeDoError) as failed:
                streamed(case, upstream)

            assert type(failed.value) is ProviderFailed


def test_a_refused_stream_is_refused_as_a_whole_answer_is(
    upstream: Upstream, subtests: pytest.Subtests
) -> None:
    for case in streamed_cases(answered=False) + cases(answered=False):
        with subtests.test(str(case)):
            with pytest.raises(LikeDoError) as refused:
                streamed(case, upstream)

            assert type(refused.value) is REFUSALS[str(case.recording)]
