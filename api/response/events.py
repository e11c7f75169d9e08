"""`GET /jobs/{id}/events`: a job's trail and numbered stream events, for any number of readers."""

import contextlib
import time
from collections.abc import Iterator
from typing import Any

from flask import Response

from api.response import answer, stream
from api.response.stream import Waited
from api.server.client import current
from jobs.following import listener
from jobs.following.reader import Reader, failure
from jobs.following.wait import WaitInterrupted
from jobs.lifecycle import store
from jobs.streaming import sse
from jobs.streaming.messages import EVENT_END, Ended, Events
from models.errors import LikeDoError, Unavailable
from models.job import Job, Status
from storage import media

#: A reader of a job that has not said anything yet is told within this time what became of it.
TRAIL_SECONDS = 1

#: What a reader is told whose process is about to go; it can come back to another.
CUT = Unavailable("The server is restarting. Come back for what follows.")


def follow(row: Job, after: int) -> Response:
    """Return a job's trail and, where it streams, its events after the number `after`.

    Raises `StreamLogGone` where those are not kept any more.
    """
    waiter = listener.listener().listen(row.id)
    client = current()
    reader = Reader(waiter, after, row.stream)
    try:
        waiter.wait_until_confirmed()
        stream.catch_up(reader, row)
        said = reader.read(0)
    except BaseException:
        waiter.close()
        raise
    client.watch(lambda: waiter.inbox.put(WaitInterrupted.HUNG_UP))
    return stream.response(
        _follow(reader, row, said), None, lambda: answer.stop_waiting(waiter, client)
    )


def _follow(reader: Reader, row: Job, said: Waited) -> Iterator[bytes]:
    trail = _Trail(row)
    try:
        yield trail.queued()
        while not isinstance(said, Ended | WaitInterrupted):
            yield from trail.so_far(has_spoken=said is not None)
            yield from [_numbered(said)] if said else trail.comments()
            said = reader.read(stream.COMMENT_SECONDS if trail.has_spoken else TRAIL_SECONDS)
        yield from trail.to_the_end()
        yield from _settled(reader, said) if isinstance(said, Ended) else [sse.error(CUT)]
    except LikeDoError as error:
        # Without a number: it is none of the job's, and who comes back is to get what follows.
        yield sse.error(error)


class _Trail:
    """What a reader is told of a job beside its events."""

    def __init__(self, row: Job) -> None:
        self.row = row
        self.has_started = False
        #: Whether an event of the stream was read; what is left of the trail follows at the end.
        self.has_spoken = False
        #: How many attempts were told, and how many images.
        self.attempts = 0
        self.completed = 0
        self.commented_at = time.monotonic()

    def queued(self) -> bytes:
        return _named("queued", {"job": self.row.id, "created": int(self.row.created)})

    def so_far(self, has_spoken: bool) -> Iterator[bytes]:
        """Yield what became of the job since this was asked last, until it has spoken."""
        if not self.has_spoken:
            self.has_spoken = has_spoken
            yield from self.to_the_end()

    def to_the_end(self) -> Iterator[bytes]:
        """Yield that the job was begun, and each attempt at it that is over: each of it once."""
        with contextlib.suppress(Unavailable):  # It is asked again.
            self.row = store.find(self.row.id) or self.row
        if self.row.started_at is not None and not self.has_started:
            self.has_started = True
            facts = {"attempt": self.row.attempts, "started_at": int(self.row.started_at)}
            yield _named("started", {"job": self.row.id} | facts)
        over = [attempt for attempt in store.trail_of(self.row) or () if _is_over(attempt)]
        for number, attempt in enumerate(over[self.attempts :], self.attempts + 1):
            yield _named("attempt", {"job": self.row.id, "attempt": number} | attempt)
        self.attempts = len(over)
        yield from self._progress()

    def _progress(self) -> Iterator[bytes]:
        """Yield how many of a job's images are there, where there are more than when last told."""
        if self.row.kind not in ("image", "batch"):
            return
        with contextlib.suppress(Unavailable):
            completed = media.count(self.row.id)
            if completed > self.completed:
                self.completed = completed
                facts = {"completed": completed, "total": self.row.total}
                yield _named("progress", {"job": self.row.id} | facts)

    def comments(self) -> Iterator[bytes]:
        """Yield a sign of life, if one is due."""
        if time.monotonic() - self.commented_at >= stream.COMMENT_SECONDS:
            self.commented_at = time.monotonic()
            try:
                yield stream.standing(self.row)
            except Unavailable:
                yield stream.KEEP_ALIVE


def _is_over(attempt: dict[str, Any]) -> bool:
    return bool(attempt["seconds"] is not None or attempt["error"])


def _settled(reader: Reader, ended: Ended) -> Iterator[bytes]:
    # Its number is the one after the last event's, so who has it already has nothing to follow.
    if _lacks_error(reader, ended):
        yield sse.numbered([sse.error(failure(ended))], (ended.events or reader.number) + 1)
    facts = {"status": ended.status, "credits_consumed": ended.charged}
    yield _named("settled", {"job": reader.subscription.job_id} | facts)


def _lacks_error(reader: Reader, ended: Ended) -> bool:
    failed = reader.streamed and ended.status != Status.COMPLETED and not reader.complete
    return failed and reader.number <= (ended.events or 0)


def _numbered(events: Events) -> bytes:
    said = events.data.removesuffix(EVENT_END).split(EVENT_END)
    return sse.numbered([event + EVENT_END for event in said], events.first)


def _named(name: str, facts: dict[str, Any]) -> bytes:
    return f"event: job.{name}\n".encode() + sse.event(facts)
