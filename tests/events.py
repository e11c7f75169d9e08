"""Streams as their readers see them, byte by byte: one connection, one event after the other."""

import http.client
import json
from typing import Any
from urllib.parse import urlsplit

from tests import upstream
from tests.callers import HELLO

STREAMED = HELLO | {"stream": True}


class Stream:
    """A stream being read. Comments are gathered, not returned."""

    def __init__(
        self, url: str, key: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> None:
        """POST `body`, or GET where there is none."""
        parts = urlsplit(url)
        self.connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
        self.connection.request(
            "GET" if body is None else "POST",
            parts.path + (f"?{parts.query}" if parts.query else ""),
            None if body is None else json.dumps(body),
            {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
            | (headers or {}),
        )
        self.reply = self.connection.getresponse()
        self.status = self.reply.status
        self.headers = {name.lower(): value for name, value in self.reply.getheaders()}
        self.comments: list[str] = []

    @property
    def job_id(self) -> str:
        return self.headers["x-job-id"]

    def event(self) -> bytes | None:
        """Return the next event with its lines as they came; None at the stream's end."""
        lines: list[bytes] = []
        while line := self.reply.readline():
            if line.startswith(b":"):
                self.comments.append(line.decode())
            elif line != b"\n":
                lines.append(line)
            elif lines:
                return b"".join(lines) + line
        assert not lines, lines
        self.close()
        return None

    def body(self) -> Any:
        """Return the JSON of an answer that is no stream."""
        body = json.loads(self.reply.read())
        self.close()
        return body

    def events(self, most: int = 1_000_000) -> list[bytes]:
        """Return the events up to the stream's end, or the next `most` of them."""
        found: list[bytes] = []
        while len(found) < most and (event := self.event()) is not None:
            found.append(event)
        return found

    def close(self) -> None:
        """Hang up."""
        self.reply.close()
        self.connection.close()


def stream(url: str, key: str, body: Any = STREAMED, **options: Any) -> Stream:
    """Ask for a streamed chat."""
    return Stream(f"{url}/api/v1/ai/chat/completions", key, body, **options)


def follow(url: str, key: str, job_id: str, after: int = 0, **options: Any) -> Stream:
    """Read the events of a job, from the one that follows `after`."""
    path = f"/api/v1/ai/jobs/{job_id}/events?starting_after={after}"
    return Stream(url + path, key, **options)


def value(event: bytes) -> Any:
    """Return the JSON in an event's data; its text where that is none."""
    (data,) = [line for line in event.decode().splitlines() if line.startswith("data: ")]
    text = data.removeprefix("data: ")
    return json.loads(text) if text.startswith("{") else text


def text_of(events: list[bytes]) -> str:
    """Return what a stream says."""
    chunks = [value(event) for event in events if b"[DONE]" not in event and b"event:" not in event]
    deltas = [c["delta"] for chunk in chunks for c in chunk.get("choices", ())]
    return "".join(delta.get("content") or "" for delta in deltas)


def numbered(events: list[bytes]) -> dict[int, bytes]:
    """Return the events with an id, by it, as they were without."""
    found = {}
    for event in events:
        first, _, rest = event.partition(b"\n")
        if first.startswith(b"id: "):
            number = int(first.removeprefix(b"id: "))
            assert number not in found, f"event {number} came twice"
            found[number] = rest
    return found


def trail(events: list[bytes]) -> list[tuple[str, Any]]:
    """Return the trail among the events as (name, facts)."""
    named = [event for event in events if event.startswith(b"event: ")]
    return [(e.partition(b"\n")[0].decode().removeprefix("event: "), value(e)) for e in named]


def at_once(events: list[str]) -> str:
    """Return several of an upstream's events as one, for what it says without a pause."""
    return "\n\ndata: ".join(events)


def words(count: int, gap: float = 0, **step: Any) -> dict[str, Any]:
    """Return an upstream's step that streams `count` words, `gap` seconds apart."""
    usage = {"prompt_tokens": 10, "completion_tokens": count, "total_tokens": 10 + count}
    events = [
        upstream.said(role="assistant", content=""),
        *(upstream.said(content=f"w{number} ") for number in range(count)),
        upstream.said("stop"),
        upstream.chunk(usage=usage),
        "[DONE]",
    ]
    return {"events": events, "gap": gap} | step
