"""A stream as clients get it: chunks as server-sent events, its last ones, and its errors."""

from collections.abc import Iterable
from typing import Any

import orjson

from jobs.streaming.messages import EVENT_END
from models.errors import LikeDoError

DONE = b"data: [DONE]\n\n"
_ERROR = b'data: {"error":'

#: What every chunk of a completion repeats.
_REPEATED = ("id", "created", "model", "system_fingerprint", "service_tier")


def event(value: Any) -> bytes:
    """Return the event that says `value`."""
    return b"data: " + orjson.dumps(value) + EVENT_END


def error(failure: LikeDoError) -> bytes:
    """Return the event with which a stream that failed after its first byte ends."""
    return event({"error": failure.as_json()})


def comment(text: str) -> bytes:
    """Return a line that no client shows. One line end: SDKs take a blank line for an event."""
    return f": {text}\n".encode()


def chunk(said: dict[str, Any], model: str, include_usage: bool) -> bytes:
    """Return a provider's chunk as callers get it: of the model as they named it.

    Where they asked for the usage, every chunk but the last has an empty one, as at OpenAI.
    """
    shown = said | {"model": model}
    return event(shown | {"usage": None} if include_usage else shown)


def tail(completion: dict[str, Any], include_usage: bool) -> list[bytes]:
    """Return the last events of a `completion` that has been paid for.

    Each choice's finish reason, the usage where it was asked for, and `[DONE]`. The last chunk
    carries `credits_consumed`, which `completion` has.
    """
    choices = [
        {"index": choice["index"], "delta": {}, "logprobs": None}
        | {"finish_reason": choice["finish_reason"]}
        for choice in completion["choices"]
    ]
    chunks = [_chunk(completion, [choice]) for choice in choices]
    if include_usage:
        chunks = [made | {"usage": None} for made in chunks]
        chunks.append(_chunk(completion, []) | {"usage": completion.get("usage")})
    chunks[-1]["credits_consumed"] = completion["credits_consumed"]
    return [*map(event, chunks), DONE]


def _chunk(completion: dict[str, Any], choices: list[dict[str, Any]]) -> dict[str, Any]:
    repeated = {name: completion[name] for name in _REPEATED if name in completion}
    return {**repeated, "object": "chat.completion.chunk", "choices": choices}


def is_end(data: bytes) -> bool:
    """Tell whether `data`, some whole events, ends with a stream's last one."""
    last = data[data.rfind(EVENT_END, 0, -len(EVENT_END)) + 1 :].lstrip(b"\n")
    return last == DONE or last.startswith(_ERROR)


def numbered(events: Iterable[bytes], first: int) -> bytes:
    """Return events with their numbers, for readers that may come back: `first` and onward."""
    return b"".join(b"id: %d\n%s" % (number, said) for number, said in enumerate(events, first))
