"""A stream as clients get it: chunks as server-sent events, the tail that ends it, errors."""

from collections.abc import Iterable
from typing import Any

import orjson

from jobs.streaming.messages import EVENT_END
from models.errors import LikeDoError

DONE = b"data: [DONE]\n\n"
_ERROR = b'data: {"error":'

#: The fields that every chunk of a completion repeats.
_REPEATED = ("id", "created", "model", "system_fingerprint", "service_tier")


def event(value: Any) -> bytes:
    """Return an event whose data is `value` as JSON."""
    return b"data: " + orjson.dumps(value) + EVENT_END


def error(failure: LikeDoError) -> bytes:
    """Return the event that ends a stream which failed after its first byte."""
    return event({"error": failure.as_json()})


def comment(text: str) -> bytes:
    """Return a line that clients ignore; one line end, as SDKs take a blank line for an event."""
    return f": {text}\n".encode()


def chunk(upstream_chunk: dict[str, Any], model: str, include_usage: bool) -> bytes:
    """Return a provider's chunk as an event for the caller, with the model as they named it.

    With `include_usage` every chunk but the last has a null usage, as at OpenAI.
    """
    shown = upstream_chunk | {"model": model}
    return event(shown | {"usage": None} if include_usage else shown)


def tail(completion: dict[str, Any], include_usage: bool) -> list[bytes]:
    """Return the events that end the stream of a `completion` that has been paid for.

    They are the finish reason of each choice, the usage if requested, and `[DONE]`. The last
    chunk carries the completion's `credits_consumed`.
    """
    chunks = [
        _chunk(
            completion,
            [
                {"index": choice["index"], "delta": {}, "logprobs": None}
                | {"finish_reason": choice["finish_reason"]}
            ],
        )
        for choice in completion["choices"]
    ]
    if include_usage:
        chunks = [chunk | {"usage": None} for chunk in chunks]
        chunks.append(_chunk(completion, []) | {"usage": completion.get("usage")})
    chunks[-1]["credits_consumed"] = completion["credits_consumed"]
    return [*map(event, chunks), DONE]


def _chunk(completion: dict[str, Any], choices: list[dict[str, Any]]) -> dict[str, Any]:
    repeated = {name: completion[name] for name in _REPEATED if name in completion}
    return {**repeated, "object": "chat.completion.chunk", "choices": choices}


def is_end(data: bytes) -> bool:
    """Tell whether `data`, some whole events, ends with the last event of a stream."""
    last = data[data.rfind(EVENT_END, 0, -len(EVENT_END)) + 1 :].lstrip(b"\n")
    return last == DONE or last.startswith(_ERROR)


def numbered(events: Iterable[bytes], first: int) -> bytes:
    """Return the events with ids from `first` on, so that a reader can resume after any of them."""
    return b"".join(b"id: %d\n%s" % (number, event) for number, event in enumerate(events, first))
