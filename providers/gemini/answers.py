"""What Gemini says, in OpenAI's names: whole answers, and the events of a stream.

What `wire.answer` and `wire.stream` say of what comes out holds here, too: this is only the
translation. Anything may be missing, since Gemini leaves out what is zero or empty.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import orjson

from models.errors import ContentPolicyViolation
from providers.wire import answer, json, refusal_body
from providers.wire.json import as_list, as_object, as_text

#: OpenAI's word for each of Gemini's reasons; one that is not known here is `stop`.
REASONS = {
    "MAX_TOKENS": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "IMAGE_SAFETY": "content_filter",
    "IMAGE_PROHIBITED_CONTENT": "content_filter",
    "IMAGE_RECITATION": "content_filter",
}
#: Failures, unless something was said before.
FAILURES = frozenset(
    {
        "MALFORMED_FUNCTION_CALL",
        "MALFORMED_RESPONSE",
        "MISSING_THOUGHT_SIGNATURE",
        "UNEXPECTED_TOOL_CALL",
        "TOO_MANY_TOOL_CALLS",
        "LANGUAGE",
        "NO_IMAGE",
        "IMAGE_OTHER",
        "OTHER",
    }
)


def completion(provider: str, body: Any) -> dict[str, Any]:
    """Return the answer in `body`, decoded JSON, with OpenAI's names.

    Raises `ContentPolicyViolation` where the prompt was refused, and `ProviderFailed` where there
    is nothing in it.
    """
    found = as_object(body)
    choices = []
    for place, candidate in enumerate(_candidates(provider, found)):
        heard = _Heard()
        said = heard.hear(candidate)
        if not said["content"] and len(said) == 1 and not heard.reason:
            raise answer.empty_answer(provider)
        choice = {"message": {"role": "assistant"} | said, "finish_reason": heard.finish_reason()}
        choices.append(_about(candidate, place) | choice)
    return _head(found) | {"choices": choices}


def events(provider: str, found: Iterable[Any]) -> Iterator[dict[str, Any]]:
    """Yield what the events of a stream say, with OpenAI's names.

    The reasons to finish come last, since Gemini may go on after it has given one, with more text
    or a call. Raises what `completion` raises.
    """
    heard: dict[int, _Heard] = {}
    for event in found:
        if not isinstance(event, dict):
            raise answer.empty_answer(provider)
        choices = []
        for place, candidate in enumerate(_candidates(provider, event)):
            choice = _about(candidate, place)
            said = heard.setdefault(choice["index"], _Heard()).hear(candidate)
            choices.append(choice | {"delta": said})
        yield _head(event) | {"choices": choices}
    yield {"choices": [_ending(index, choice) for index, choice in heard.items()]}


@dataclass(slots=True)
class _Heard:
    """What one candidate said so far."""

    calls: int = 0
    has_spoken: bool = False
    reason: str = ""

    def hear(self, candidate: dict[str, Any]) -> dict[str, Any]:
        """Return the message, or the delta, in a candidate."""
        parts = [as_object(part) for part in as_list(_content(candidate).get("parts"))]
        calls = [self._call(part) for part in parts if "functionCall" in part]
        content, thoughts = _text(parts, thought=False), _text(parts, thought=True)
        images = [_image(part["inlineData"]) for part in parts if "inlineData" in part]

        self.reason = as_text(candidate.get("finishReason")) or self.reason
        self.has_spoken = self.has_spoken or bool(content or calls or images)
        said: dict[str, Any] = {"content": content or (None if calls else "")}
        found = {"reasoning_content": thoughts, "images": images, "tool_calls": calls}
        return said | {name: value for name, value in found.items() if value}

    def finish_reason(self) -> str | None:
        """Return OpenAI's reason, or `error`; a call ends with Gemini's `STOP` like any answer."""
        if self.reason in FAILURES and not self.has_spoken:
            return "error"
        reason = REASONS.get(self.reason, "stop" if self.reason else None)
        return "tool_calls" if reason == "stop" and self.calls else reason

    def _call(self, part: dict[str, Any]) -> dict[str, Any]:
        called, signature = as_object(part["functionCall"]), as_text(part.get("thoughtSignature"))
        arguments = orjson.dumps(called.get("args") or {}).decode()
        call: dict[str, Any] = {
            "index": self.calls,
            "id": called.get("id"),
            "function": {"name": called.get("name"), "arguments": arguments},
        }
        self.calls += 1
        if signature:
            call["extra_content"] = {"google": {"thought_signature": signature}}
        return call


def _candidates(provider: str, found: dict[str, Any]) -> list[dict[str, Any]]:
    candidates = as_list(found.get("candidates"))
    if not candidates:
        _raise_if_blocked(provider, as_object(found.get("promptFeedback")))
    if not all(isinstance(candidate, dict) for candidate in candidates):
        raise answer.empty_answer(provider)
    return candidates


def _raise_if_blocked(provider: str, feedback: dict[str, Any]) -> None:
    reasons = [as_text(feedback.get(name)) for name in ("blockReason", "blockReasonMessage")]
    if any(reasons):
        told = refusal_body.scrub(": ".join(reason for reason in reasons if reason))
        raise ContentPolicyViolation(f"{provider} refuses this prompt ({told}).", param="messages")


def _head(found: dict[str, Any]) -> dict[str, Any]:
    head = {
        "id": found.get("responseId"),
        "model": as_text(found.get("modelVersion")).removeprefix("models/"),
        "usage": _usage(as_object(found.get("usageMetadata"))),
        "error": found.get("error"),
    }
    return {name: value for name, value in head.items() if value}


def _about(candidate: dict[str, Any], place: int) -> dict[str, Any]:
    index = candidate.get("index")
    return {
        "index": index if json.is_count(index) else place,
        "logprobs": _logprobs(as_object(candidate.get("logprobsResult"))),
    }


def _ending(index: int, heard: _Heard) -> dict[str, Any]:
    return {"index": index, "delta": {}, "finish_reason": heard.finish_reason()}


def _content(candidate: dict[str, Any]) -> dict[str, Any]:
    return as_object(candidate.get("content"))


def _text(parts: list[dict[str, Any]], *, thought: bool) -> str:
    return "".join(
        as_text(part.get("text")) for part in parts if bool(part.get("thought")) == thought
    )


def _image(blob: Any) -> dict[str, Any]:
    found = as_object(blob)
    url = f"data:{found.get('mimeType')};base64,{found.get('data')}"
    return {"type": "image_url", "image_url": {"url": url}}


# ---- Numbers -------------------------------------------------------------------------------------


def _usage(found: dict[str, Any]) -> dict[str, Any] | None:
    """Return OpenAI's usage: Gemini counts thoughts, and what tools read, beside the rest."""
    counts = {name: count for name, count in found.items() if json.is_count(count)}
    if "promptTokenCount" not in counts and "totalTokenCount" not in counts:
        return None
    thoughts = counts.get("thoughtsTokenCount", 0)
    prompt = counts.get("promptTokenCount", 0) + counts.get("toolUsePromptTokenCount", 0)
    completion = counts.get("candidatesTokenCount", 0) + thoughts
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": counts.get("totalTokenCount", prompt + completion),
        "prompt_tokens_details": {"cached_tokens": counts.get("cachedContentTokenCount", 0)},
        "completion_tokens_details": {"reasoning_tokens": thoughts},
    }


def _logprobs(result: dict[str, Any]) -> dict[str, Any] | None:
    chosen = as_list(result.get("chosenCandidates"))
    if not chosen:
        return None
    tops = as_list(result.get("topCandidates"))[: len(chosen)]
    return {"content": [_token(*pair) for pair in zip_longest(chosen, tops)], "refusal": None}


def _token(found: Any, top: Any) -> dict[str, Any]:
    others = as_list(as_object(top).get("candidates"))
    return _logprob(found) | {"top_logprobs": [_logprob(other) for other in others]}


def _logprob(found: Any) -> dict[str, Any]:
    token, logprob = as_text(as_object(found).get("token")), as_object(found).get("logProbability")
    return {
        "token": token,
        "logprob": logprob if isinstance(logprob, int | float) else 0.0,
        "bytes": list(token.encode()),
    }
