"""`GET /jobs/{id}/events`: a job's trail and numbered stream events, for any number of readers."""

import contextlib
import time
from collections.abc import Iterator
from typing import Any

from flask import Response

from api.request.slots import Slots
from api.response import stream
from api.response.listening import listening
from api.response.stream import ReadResult
from jobs.following.reader import Reader, failure
from jobs.following.wait import WaitInterrupted
from jobs.kinds import IMAGE_KINDS
from jobs.lifecycle import store
from jobs.streaming import sse
from jobs.streaming.messages import EVENT_END, Ended, Events
from models.errors import LikeDoError, Unavailable
from models.job import Job, Status
from storage import media

#: The trail of a job that has not streamed anything yet is looked up this often.
TRAIL_SECONDS = 1

#: Readers of one account, and of all, that a web process serves at a time.
MAX_READERS, MAX_ALL_READERS = 100, 2000
readers = Slots(
    MAX_READERS,
    f"Your account has {MAX_READERS} readers of events already. End some of them first.",
    total=MAX_ALL_READERS,
)

#: The last event of a stream whose web process stops. Its reader can come back to another.
RESTARTING = Unavailable("The server is restarting. Come back for what follows.")


def follow(row: Job, after: int) -> Response:
    """Return a job's trail and, if it streams, its events after the number `after`.

    Raises `StreamLogGone` if those are not kept any more, `Overloaded` if the account has too many
    readers.
    """
    with listening(row.id) as wait:
        wait.stack.enter_context(readers.taken(row.account_id))
        reader = Reader(wait.subscription, after, row.stream)
        wait.wait_until_confirmed()
        stream.catch_up(reader, row)
        first = reader.read(0)
        wait.watch_client()
        return wait.until_closed(stream.response(_follow(reader, row, first), None))


def _follow(reader: Reader, row: Job, result: ReadResult) -> Iterator[bytes]:
    trail = _Trail(row)
    try:
        yield trail.queued()
        while not isinstance(result, Ended | WaitInterrupted):
            yield from trail.so_far(has_streamed=result is not None)
            yield from [_numbered(result)] if result else trail.comments()
            result = reader.read(stream.COMMENT_SECONDS if trail.has_streamed else TRAIL_SECONDS)
        yield from trail.to_the_end()
        if isinstance(result, Ended):
            yield from _settled(reader, row, result)
        else:
            yield sse.error(RESTARTING)
    except LikeDoError as error:
        # Without a number: it is not the job's, so a reader that comes back gets what follows.
        yield sse.error(error)


class _Trail:
    """What a reader gets of a job beside its stream: its start, attempts and progress."""

    def __init__(self, row: Job) -> None:
        self.row = row
        self.has_started = False
        #: Whether an event of the stream was read; the rest of the trail then follows at the end.
        self.has_streamed = False
        #: How many attempts and images the reader knows of.
        self.attempts = 0
        self.completed = 0
        self.commented_at = time.monotonic()

    def queued(self) -> bytes:
        return _named("queued", {"job": self.row.id, "created": int(self.row.created)})

    def so_far(self, has_streamed: bool) -> Iterator[bytes]:
        """Yield what is new in the trail, until the job has streamed something."""
        if not self.has_streamed:
            self.has_streamed = has_streamed
            yield from self.to_the_end()

    def to_the_end(self) -> Iterator[bytes]:
        """Yield what is new: that the job was started, attempts that are over, images."""
        with contextlib.suppress(Unavailable):  # It is read again later.
            self.row = store.find(self.row.id) or self.row
        if self.row.started_at is not None and not self.has_started:
            self.has_started = True
            started = {"attempt": self.row.attempts, "started_at": int(self.row.started_at)}
            yield _named("started", {"job": self.row.id} | started)
        over = [attempt for attempt in store.trail_of(self.row) or () if _is_over(attempt)]
        for number, attempt in enumerate(over[self.attempts :], self.attempts + 1):
            yield _named("attempt", {"job": self.row.id, "attempt": number} | attempt)
        self.attempts = len(over)
        yield from self._progress()

    def _progress(self) -> Iterator[bytes]:
        """Yield how many of the job's images are done, if that are more than last time."""
        if self.row.kind not in IMAGE_KINDS:
            return
        with contextlib.suppress(Unavailable):
            completed = media.count(self.row.id)
            if completed > self.completed:
                self.completed = completed
                progress = {"completed": completed, "total": self.row.total}
                yield _named("progress", {"job": self.row.id} | progress)

    def comments(self) -> Iterator[bytes]:
        """Yield a sign of life, if one is due."""
        if time.monotonic() - self.commented_at >= stream.COMMENT_SECONDS:
            self.commented_at = time.monotonic()
            try:
                yield stream.queue_comments(self.row)
            except Unavailable:
                yield stream.KEEP_ALIVE


def _is_over(attempt: dict[str, Any]) -> bool:
    return bool(attempt["seconds"] is not None or attempt["error"])


def _settled(reader: Reader, row: Job, ended: Ended) -> Iterator[bytes]:
    # Its number follows the last event's, so a reader that has it has nothing left to read.
    if _lacks_error(reader, ended):
        yield sse.numbered([sse.error(failure(ended))], (ended.events or reader.number) + 1)
    outcome = {"status": ended.status, "credits_consumed": ended.charged}
    yield _named("settled", {"job": row.id} | outcome)


def _lacks_error(reader: Reader, ended: Ended) -> bool:
    failed = reader.streamed and ended.status != Status.COMPLETED and not reader.complete
    return failed and reader.number <= (ended.events or 0)


def _numbered(events: Events) -> bytes:
    texts = events.data.removesuffix(EVENT_END).split(EVENT_END)
    return sse.numbered([text + EVENT_END for text in texts], events.first)


def _named(name: str, data: dict[str, Any]) -> bytes:
    return f"event: job.{name}\n".encode() + sse.event(data)
