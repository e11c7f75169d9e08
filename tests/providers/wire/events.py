"""The events of a stream, and the chunks that come of them."""

import json
from collections.abc import Iterator
from typing import Any

from net.answer import Response
from providers.wire import stream

USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
SO_FAR = {"prompt_tokens": 3, "completion_tokens": 1}
DONE = {"finish_reason": "stop"}


class Body:
    """An answer of status 200: its events, or a whole body."""

    def __init__(self, *events: Any, whole: Any = None) -> None:
        self.headers: dict[str, str] = {}
        self._events, self._whole = events, whole

    def has_events(self) -> bool:
        return self._whole is None

    def events(self) -> Iterator[bytes]:
        for event in self._events:
            yield event if isinstance(event, bytes) else json.dumps(event).encode()

    def whole(self) -> Response:
        return Response(200, {}, json.dumps(self._whole).encode())


def event(delta: Any = None, **choice: Any) -> dict[str, Any]:
    return {"id": "c1", "created": 5, "choices": [{"index": 0, "delta": delta or {}} | choice]}


def read(*events: Any, whole: Any = None) -> list[dict[str, Any]]:
    return list(stream.read("vendor", Body(*events, whole=whole)))  # type: ignore[arg-type]


def deltas(*events: Any) -> list[dict[str, Any]]:
    """Return what the chunks say, with the end of the stream added to `events` and taken off."""
    *said, finish = read(*events, event(**DONE))
    assert finish["choices"][0]["finish_reason"] == "stop"
    return [chunk["choices"][0]["delta"] for chunk in said]
