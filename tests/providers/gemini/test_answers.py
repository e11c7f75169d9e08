"""What Gemini says, in OpenAI's words."""

import json
from typing import Any

import pytest

from models.errors import ContentPolicyViolation, LikeDoError, ProviderFailed
from net.call import Call
from providers.gemini import answers
from providers.gemini.chat import Gemini
from providers.wire.chunks import Assembly
from tests.providers.gemini.asking import FLASH, PIXEL
from tests.providers.requests_and_routes import chat, route
from tests.upstream import Upstream, gemini_said


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


@pytest.mark.parametrize(
    "blob",
    [
        {"data": "aGk="},
        {"mimeType": "image/png"},
        {"mimeType": "image/png", "data": ""},
        {"mimeType": "audio/wav", "data": "aGk="},
        {"mimeType": 7, "data": 7},
        None,
    ],
    ids=str,
)
def test_what_is_no_whole_picture_is_none(upstream: Upstream, blob: Any) -> None:
    said = parts({"text": "Hi"}, {"inlineData": blob})

    for choice in (complete(upstream, said)["choices"][0], assembled(stream(upstream, said))):
        assert choice["message"]["content"] == "Hi"
        assert "images" not in choice["message"]


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
