"""Translating Gemini's answers, whole or streamed, into OpenAI's names.

This is only the translation: `wire.answer` and `wire.stream` check its results. Any field may be
missing, since Gemini leaves out what is zero or empty.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import orjson

from models.errors import ContentPolicyViolation
from providers.wire import answer, json, refusal_body
from providers.wire.json import as_list, as_object, as_text

#: OpenAI's finish reason for each of Gemini's; one that is not listed becomes `stop`.
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
#: Finish reasons that mean a failure, unless the candidate has content.
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

    Raises `ContentPolicyViolation` if the prompt was refused, and `ProviderFailed` if the answer is
    empty.
    """
    raw = as_object(body)
    choices = []
    for position, candidate in enumerate(_candidates(provider, raw)):
        reader = _CandidateReader()
        message = reader.read(candidate)
        if not message["content"] and len(message) == 1 and not reader.reason:
            raise answer.empty_answer(provider)
        message = {"role": "assistant"} | message
        choice = {"message": message, "finish_reason": reader.finish_reason()}
        choices.append(_choice_head(candidate, position) | choice)
    return _head(raw) | {"choices": choices}


def events(provider: str, raw_events: Iterable[Any]) -> Iterator[dict[str, Any]]:
    """Yield the events of a stream with OpenAI's names.

    The finish reasons come last, since Gemini may send more text or a call after it has given one.
    Raises what `completion` raises.
    """
    readers: dict[int, _CandidateReader] = {}
    for event in raw_events:
        if not isinstance(event, dict):
            raise answer.empty_answer(provider)
        choices = []
        for position, candidate in enumerate(_candidates(provider, event)):
            choice = _choice_head(candidate, position)
            reader = readers.setdefault(choice["index"], _CandidateReader())
            choices.append(choice | {"delta": reader.read(candidate)})
        yield _head(event) | {"choices": choices}
    yield {"choices": [_final_choice(index, reader) for index, reader in readers.items()]}


@dataclass(slots=True)
class _CandidateReader:
    """Reads one candidate, whole or piece by piece."""

    #: How many calls there were so far.
    calls: int = 0
    has_content: bool = False
    #: Gemini's finish reason; empty until there is one.
    reason: str = ""

    def read(self, candidate: dict[str, Any]) -> dict[str, Any]:
        """Return the message, or the delta, in a candidate."""
        parts = [as_object(part) for part in as_list(_content(candidate).get("parts"))]
        calls = [self._call(part) for part in parts if "functionCall" in part]
        content, thoughts = _text(parts, thought=False), _text(parts, thought=True)
        images = [image for part in parts if (image := _image(part.get("inlineData")))]

        self.reason = as_text(candidate.get("finishReason")) or self.reason
        self.has_content = self.has_content or bool(content or calls or images)
        message: dict[str, Any] = {"content": content or (None if calls else "")}
        optional = {"reasoning_content": thoughts, "images": images, "tool_calls": calls}
        return message | {name: value for name, value in optional.items() if value}

    def finish_reason(self) -> str | None:
        """Return OpenAI's finish reason, `error` for a failure, or None if there is none yet."""
        if self.reason in FAILURES and not self.has_content:
            return "error"
        reason = REASONS.get(self.reason, "stop" if self.reason else None)
        # Gemini ends calls with `STOP`, like any other answer.
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


def _candidates(provider: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    candidates = as_list(body.get("candidates"))
    if not candidates:
        _raise_if_blocked(provider, as_object(body.get("promptFeedback")))
    if not all(isinstance(candidate, dict) for candidate in candidates):
        raise answer.empty_answer(provider)
    return candidates


def _raise_if_blocked(provider: str, feedback: dict[str, Any]) -> None:
    reasons = [as_text(feedback.get(name)) for name in ("blockReason", "blockReasonMessage")]
    if any(reasons):
        reason = refusal_body.scrub(": ".join(filter(None, reasons)))
        raise ContentPolicyViolation(
            f"{provider} refuses this prompt ({reason}).", param="messages"
        )


def _head(body: dict[str, Any]) -> dict[str, Any]:
    head = {
        "id": body.get("responseId"),
        "model": as_text(body.get("modelVersion")).removeprefix("models/"),
        "usage": _usage(as_object(body.get("usageMetadata"))),
        "error": body.get("error"),
    }
    return {name: value for name, value in head.items() if value}


def _choice_head(candidate: dict[str, Any], position: int) -> dict[str, Any]:
    index = candidate.get("index")
    return {
        "index": index if json.is_count(index) else position,
        "logprobs": _logprobs(as_object(candidate.get("logprobsResult"))),
    }


def _final_choice(index: int, reader: _CandidateReader) -> dict[str, Any]:
    return {"index": index, "delta": {}, "finish_reason": reader.finish_reason()}


def _content(candidate: dict[str, Any]) -> dict[str, Any]:
    return as_object(candidate.get("content"))


def _text(parts: list[dict[str, Any]], *, thought: bool) -> str:
    return "".join(
        as_text(part.get("text")) for part in parts if bool(part.get("thought")) == thought
    )


def _image(raw: Any) -> dict[str, Any] | None:
    """Return the image in a part's `inlineData`; None if it is incomplete or something else."""
    blob = as_object(raw)
    media_type, data = as_text(blob.get("mimeType")), as_text(blob.get("data"))
    if not (media_type.startswith("image/") and data):
        return None
    return {"type": "image_url", "image_url": {"url": f"data:{media_type};base64,{data}"}}


# ---- Usage and logprobs --------------------------------------------------------------------------


def _usage(metadata: dict[str, Any]) -> dict[str, Any] | None:
    """Return OpenAI's usage; it includes thoughts and tool results, which Gemini counts apart."""
    counts = {name: count for name, count in metadata.items() if json.is_count(count)}
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


def _token(chosen: Any, top: Any) -> dict[str, Any]:
    others = as_list(as_object(top).get("candidates"))
    return _logprob(chosen) | {"top_logprobs": [_logprob(other) for other in others]}


def _logprob(raw: Any) -> dict[str, Any]:
    token, logprob = as_text(as_object(raw).get("token")), as_object(raw).get("logProbability")
    return {
        "token": token,
        "logprob": logprob if isinstance(logprob, int | float) else 0.0,
        "bytes": list(token.encode()),
    }
