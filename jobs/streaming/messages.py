"""The messages a worker publishes about one job: events of its stream, and how it ended.

A stream's events are numbered 1, 2, 3 … and travel as finished server-sent events, so that a relay
need not parse them.
"""

from dataclasses import dataclass
from typing import Any

import orjson

#: A larger answer does not travel with the notification; it is read from SQL.
MAX_INLINE_BYTES = 64 * 1024
#: Ends every event and occurs within none: JSON text has no raw line ends.
EVENT_END = b"\n\n"


def channel(job_id: str) -> str:
    """Return the pub/sub channel of a job's messages."""
    return f"likedo:job:{job_id}"


def worker_channel(worker: str) -> str:
    """Return the pub/sub channel for messages to a worker to end jobs."""
    return f"likedo:worker:{worker}"


@dataclass(frozen=True)
class Source:
    """Where an answer comes from: a provider, its model, and the number of attempts so far."""

    provider: str | None = None
    upstream_model: str | None = None
    attempts: int = 0

    def encode(self) -> bytes:
        """Return the source as one line; a model's name may contain spaces, so it comes last."""
        return f"{self.attempts} {self.provider or ''} {self.upstream_model or ''}".encode()

    @classmethod
    def decode(cls, line: bytes) -> "Source":
        attempts, provider, model = line.decode().split(" ", 2)
        return cls(provider or None, model or None, int(attempts))


UNKNOWN_SOURCE = Source()


@dataclass(frozen=True)
class Events:
    """Consecutive events of a job's stream, numbered `first` to `last`, as clients get them."""

    attempt: int
    first: int
    last: int
    source: Source
    data: bytes

    def encode(self) -> bytes:
        """Return the message: one line of metadata, then the bytes of the events."""
        header = (self.attempt, self.first, self.last, self.source.encode())
        return b"%d %d %d %s\n" % header + self.data

    @classmethod
    def decode(cls, message: bytes) -> "Events":
        header, _, data = message.partition(b"\n")
        attempt, first, last, source = header.split(b" ", 3)
        return cls(int(attempt), int(first), int(last), Source.decode(source), data)

    def after(self, number: int) -> "Events | None":
        """Return the events that follow event `number`; None if there are none."""
        if number >= self.last:
            return None
        if number < self.first:
            return self
        remaining = self.data.split(EVENT_END, number - self.first + 1)[-1]
        return Events(self.attempt, number + 1, self.last, self.source, remaining)


@dataclass(frozen=True)
class Ended:
    """How a job ended, for the callers that wait for it."""

    status: str
    source: Source = UNKNOWN_SOURCE
    charged: int | None = None
    available: int | None = None
    error: dict[str, Any] | None = None
    #: Number of the stream's last event before its tail; None if it published none.
    events: int | None = None
    #: The answer of a job that does not stream; None if it has to be read from SQL.
    body: bytes | None = None
    #: The events that end the stream, if the worker made them.
    tail: Events | None = None
    #: All events of the stream that the worker has, for the log. Not part of the message.
    whole: Events | None = None

    def encode(self) -> bytes:
        """Return the message: one line of JSON, then the answer or the tail."""
        header = {name: getattr(self, name) for name in _HEADER} | {"streamed": bool(self.tail)}
        header["source"] = self.source.encode().decode()
        content = self.tail.encode() if self.tail else self.body or b""
        return orjson.dumps(header) + b"\n" + (content if len(content) <= MAX_INLINE_BYTES else b"")

    @classmethod
    def decode(cls, message: bytes) -> "Ended":
        line, _, content = message.partition(b"\n")
        header = orjson.loads(line)
        header["source"] = Source.decode(header["source"].encode())
        if header.pop("streamed"):
            return cls(tail=Events.decode(content) if content else None, **header)
        return cls(body=content or None, **header)


#: The fields of `Ended` that travel under their own names.
_HEADER = ("status", "charged", "available", "error", "events")


def decode(message: bytes) -> Ended | Events:
    """Return the published message, decoded."""
    return Ended.decode(message) if message.startswith(b"{") else Events.decode(message)


STREAM_BROKEN = (
    "The worker that streamed this answer is gone, and the rest of it with it. Try again."
)
