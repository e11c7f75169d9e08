"""What a worker says of one job: events of its stream, and how it ended.

A stream's events are numbered 1, 2, 3 … and travel as finished server-sent events, so that whoever
relays them need not read them.
"""

from dataclasses import dataclass
from typing import Any

import orjson

#: An answer above this does not ride along with the bell; it is read from SQL.
INLINE_BYTES = 64 * 1024
#: What ends one event, and stands in none: JSON has no line ends of its own.
EVENT_END = b"\n\n"


def channel(job_id: str) -> str:
    """Return the channel on which a job is spoken of."""
    return f"likedo:job:{job_id}"


def worker_channel(worker: str) -> str:
    """Return the channel on which a worker is told to end a job."""
    return f"likedo:worker:{worker}"


@dataclass(frozen=True)
class Source:
    """Who an answer comes from: a provider, its model, and after how many attempts."""

    provider: str | None = None
    upstream_model: str | None = None
    attempts: int = 0

    def encode(self) -> bytes:
        """Return it as it travels, in one line; a model's name may have spaces, so it is last."""
        named = f"{self.provider or ''} {self.upstream_model or ''}"
        return f"{self.attempts} {named}".encode()

    @classmethod
    def decode(cls, line: bytes) -> "Source":
        attempts, provider, model = line.decode().split(" ", 2)
        return cls(provider or None, model or None, int(attempts))


UNKNOWN_SOURCE = Source()


@dataclass(frozen=True)
class Events:
    """Some events of a job's stream: those numbered `first` to `last`, as they go to clients."""

    attempt: int
    first: int
    last: int
    source: Source
    data: bytes

    def encode(self) -> bytes:
        """Return them as they travel: a line of facts, then the events' own bytes."""
        facts = (self.attempt, self.first, self.last, self.source.encode())
        return b"%d %d %d %s\n" % facts + self.data

    @classmethod
    def decode(cls, message: bytes) -> "Events":
        facts, _, data = message.partition(b"\n")
        attempt, first, last, source = facts.split(b" ", 3)
        return cls(int(attempt), int(first), int(last), Source.decode(source), data)

    def after(self, number: int) -> "Events | None":
        """Return those of them that follow the event `number`; None where none does."""
        if number >= self.last:
            return None
        if number < self.first:
            return self
        rest = self.data.split(EVENT_END, number - self.first + 1)[-1]
        return Events(self.attempt, number + 1, self.last, self.source, rest)


@dataclass(frozen=True)
class Ended:
    """How a job ended, as its waiter needs to know it."""

    status: str
    source: Source = UNKNOWN_SOURCE
    charged: int | None = None
    available: int | None = None
    error: dict[str, Any] | None = None
    #: Of a stream: the number of the last event before those that end it; None where it said none.
    events: int | None = None
    #: A plain job's answer, or None where it has to be read from SQL.
    body: bytes | None = None
    #: A stream's last events, where its worker said them.
    tail: Events | None = None
    #: All of a stream that its worker has, for its log. It does not travel.
    whole: Events | None = None

    def encode(self) -> bytes:
        """Return it as it travels: one line of JSON, then the answer's or the events' bytes."""
        facts = {name: getattr(self, name) for name in _FACTS} | {"streamed": bool(self.tail)}
        facts["source"] = self.source.encode().decode()
        rest = self.tail.encode() if self.tail else self.body or b""
        return orjson.dumps(facts) + b"\n" + (rest if len(rest) <= INLINE_BYTES else b"")

    @classmethod
    def decode(cls, message: bytes) -> "Ended":
        line, _, rest = message.partition(b"\n")
        facts = orjson.loads(line)
        facts["source"] = Source.decode(facts["source"].encode())
        if facts.pop("streamed"):
            return cls(tail=Events.decode(rest) if rest else None, **facts)
        return cls(body=rest or None, **facts)


_FACTS = ("status", "charged", "available", "error", "events")


def decode(message: bytes) -> Ended | Events:
    """Return what was published."""
    return Ended.decode(message) if message.startswith(b"{") else Events.decode(message)


BROKEN_OFF = "The worker that streamed this answer is gone, and the rest of it with it. Try again."
