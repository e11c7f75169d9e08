"""Streams on the wire: a job's events relayed to its caller, and to whoever else may read them."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

from flask import Response, g
from sqlalchemy import Row

from api import answers
from api import errors as envelope
from api.client import Client, Gone, current
from api.handover import handed_over
from config.settings import settings
from jobs import cancelling, media, pace, rows, sse, stream_log
from jobs.channel import Waiter
from jobs.messages import EVENT_END, Ended, Events
from jobs.readers import Reader, failure
from jobs.waiting import Interruption, look_around
from models import errors
from models.job import Status

#: A comment follows each so many seconds of silence.
COMMENT_SECONDS = 10
#: What has come meanwhile goes to the client in one write, up to this.
MOST_WRITE_BYTES = 64 * 1024
#: A reader of a job that has not said anything yet is told within this time what became of it.
TRAIL_SECONDS = 1

KEEP_ALIVE = sse.comment("keep-alive")

HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",
}

#: What a reader is told whose process is about to go; it can come back to another.
CUT = errors.Unavailable("The server is restarting. Come back for what follows.")

Said = Events | Ended | Interruption | None


def stream(waiter: Waiter, cancels: bool) -> Response:
    """Return a job's stream once its first chunk is there, or after `STREAM_COMMIT_SECONDS`.

    Until then a failure is raised, to become a status. `cancels`: the job ends with its client.
    """
    client = current()
    client.watch(lambda: waiter.heard.put(Interruption.HUNG_UP))
    return _begin(Reader(waiter), client, cancels)


def _begin(reader: Reader, client: Client, cancels: bool) -> Response:
    waiter = reader.waiter
    try:
        said = reader.read(settings.stream_commit_seconds)
        if isinstance(said, Interruption):
            raise _interrupted(waiter.job_id, said, cancels)
        if isinstance(said, Ended) and said.status != Status.COMPLETED:
            answers.note(waiter.job_id, said)
            answers.tell_failure(waiter.job_id, client)
            raise failure(said)
    except BaseException:
        answers.part(waiter, client)
        raise
    body = _relay(reader, said, client, cancels)
    return _response(body, said, lambda: answers.part(waiter, client))


def join(row: Row[Any]) -> Response:
    """Return the stream that somebody asked for before, from its beginning.

    Raises `StreamLogGone` where that is not kept any more.
    """
    waiter = answers.listener().listen(row.id)
    client = current()
    client.watch(lambda: waiter.heard.put(Interruption.HUNG_UP))
    reader = Reader(waiter)
    try:
        waiter.ready()
        _catch_up(reader, row)
    except BaseException:
        answers.part(waiter, client)
        raise
    # Who came to join it does not end it for others; with nobody left its worker ends it.
    return _begin(reader, client, False)


def _response(body: Iterator[bytes], said: Said, part: Callable[[], None]) -> Response:
    source = envelope.facts_of(said.source) if isinstance(said, Events) else {}
    headers = HEADERS | g.get("job_headers", {}) | envelope.headers_of(source)
    response = Response(body, headers=headers)
    response.call_on_close(part)
    return response


def _interrupted(job_id: str, why: Interruption, cancels: bool) -> Exception:
    """Do what follows for the job when its client is gone, or this process about to go."""
    if why is Interruption.HUNG_UP:
        answers.hung_up(job_id, cancels)
        return Gone()
    return _broken_off(job_id, errors.Unavailable("The server is restarting. Try again."), cancels)


def _broken_off(job_id: str, error: errors.LikeDoError, cancels: bool) -> errors.LikeDoError:
    """End a job whose stream we break off, free of charge; or let it go on and say where."""
    with contextlib.suppress(errors.Unavailable):  # Its worker notices that nobody listens.
        if cancels:
            cancelling.cancel(job_id, error)
            return error
        rows.mark_left(job_id)
    where = f"The stream broke off and goes on at /api/v1/ai/jobs/{job_id}/events."
    return errors.Unavailable(f"{where} {error.message}")


def _relay(reader: Reader, said: Said, client: Client, cancels: bool) -> Iterator[bytes]:
    """Yield what goes to the client that asked for the stream."""
    job_id = reader.waiter.job_id
    try:
        while not isinstance(said, Ended | Interruption):
            if said is None:
                yield _comment(reader)
            else:
                data, said = _gather(reader, said)
                yield data
            said = said or reader.read(COMMENT_SECONDS)
        if isinstance(said, Ended):
            yield from _close(reader, said, client)
        elif isinstance(error := _interrupted(job_id, said, cancels), errors.LikeDoError):
            yield sse.error(error)
    except errors.StreamLogGone as error:
        # The client was too slow: as good as gone.
        answers.hung_up(job_id, cancels)
        yield sse.error(error)
    except errors.LikeDoError as error:
        yield sse.error(_broken_off(job_id, error, cancels))
    except GeneratorExit:
        if reader.ended is None:
            answers.hung_up(job_id, cancels)
        raise


def _close(reader: Reader, ended: Ended, client: Client) -> Iterator[bytes]:
    if not reader.complete:
        yield sse.error(failure(ended))
    if ended.status == Status.COMPLETED and not client.gone():
        handed_over(reader.waiter.job_id)


def _gather(reader: Reader, events: Events) -> tuple[bytes, Said]:
    """Return the bytes of all events that have come, and what was said after them, if anything."""
    data, size = [events.data], len(events.data)
    while size < MOST_WRITE_BYTES and reader.has_more():
        said = reader.read(0)
        if not isinstance(said, Events):
            return b"".join(data), said
        data.append(said.data)
        size += len(said.data)
    return b"".join(data), None


def _comment(reader: Reader) -> bytes:
    """Return a sign of life: where the job stands, as long as it waits for a worker."""
    if reader.number:
        return KEEP_ALIVE
    try:
        row = rows.find(reader.waiter.job_id)
        return _standing(row) if row is not None else KEEP_ALIVE
    except errors.Unavailable:
        return KEEP_ALIVE


def _standing(row: Row[Any]) -> bytes:
    """Return as comments where a waiting job stands, and how long it will wait where one can tell.

    Raises `Unavailable`.
    """
    position = rows.position(row)
    if position is None:
        return KEEP_ALIVE
    said = sse.comment(f"queued position={position}")
    wait = pace.wait_seconds(row.kind, position)
    return said if wait is None else said + sse.comment(f"estimated_wait_seconds={wait}")


# ---- Any reader, at any time ---------------------------------------------------------------------


def follow(row: Row[Any], after: int) -> Response:
    """Return a job's trail and, where it streams, its events after the number `after`.

    Raises `StreamLogGone` where those are not kept any more.
    """
    waiter = answers.listener().listen(row.id)
    client = current()
    reader = Reader(waiter, after, row.stream)
    try:
        waiter.ready()
        _catch_up(reader, row)
        said = reader.read(0)
    except BaseException:
        waiter.close()
        raise
    client.watch(lambda: waiter.heard.put(Interruption.HUNG_UP))
    return _response(_follow(reader, row, said), None, lambda: answers.part(waiter, client))


def _catch_up(reader: Reader, row: Row[Any]) -> None:
    """Read from the log first, and to the end of a job that has ended."""
    ended = look_around(row.id)
    if ended is None:
        reader.catch_up()
        return
    if row.stream and (row.finished_at or time.time()) < time.time() - stream_log.KEPT_SECONDS:
        raise errors.StreamLogGone(f"The stream of job {row.id} is not kept any more.")
    reader.end(ended)


def _follow(reader: Reader, row: Row[Any], said: Said) -> Iterator[bytes]:
    trail = _Trail(row)
    try:
        yield trail.queued()
        while not isinstance(said, Ended | Interruption):
            yield from trail.so_far(has_spoken=said is not None)
            yield from [_numbered(said)] if said else trail.comments()
            said = reader.read(COMMENT_SECONDS if trail.has_spoken else TRAIL_SECONDS)
        yield from trail.to_the_end()
        yield from _settled(reader, said) if isinstance(said, Ended) else [sse.error(CUT)]
    except errors.LikeDoError as error:
        # Without a number: it is none of the job's, and who comes back is to get what follows.
        yield sse.error(error)


class _Trail:
    """What a reader is told of a job beside its events."""

    def __init__(self, row: Row[Any]) -> None:
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
        with contextlib.suppress(errors.Unavailable):  # It is asked again.
            self.row = rows.find(self.row.id) or self.row
        if self.row.started_at is not None and not self.has_started:
            self.has_started = True
            facts = {"attempt": self.row.attempts, "started_at": int(self.row.started_at)}
            yield _named("started", {"job": self.row.id} | facts)
        over = [attempt for attempt in rows.trail_of(self.row) or () if _is_over(attempt)]
        for number, attempt in enumerate(over[self.attempts :], self.attempts + 1):
            yield _named("attempt", {"job": self.row.id, "attempt": number} | attempt)
        self.attempts = len(over)
        yield from self._progress()

    def _progress(self) -> Iterator[bytes]:
        """Yield how many of a job's images are there, where there are more than when last told."""
        if self.row.kind not in ("image", "batch"):
            return
        with contextlib.suppress(errors.Unavailable):
            completed = media.count(self.row.id)
            if completed > self.completed:
                self.completed = completed
                facts = {"completed": completed, "total": self.row.total}
                yield _named("progress", {"job": self.row.id} | facts)

    def comments(self) -> Iterator[bytes]:
        """Yield a sign of life, if one is due."""
        if time.monotonic() - self.commented_at >= COMMENT_SECONDS:
            self.commented_at = time.monotonic()
            try:
                yield _standing(self.row)
            except errors.Unavailable:
                yield KEEP_ALIVE


def _is_over(attempt: dict[str, Any]) -> bool:
    return bool(attempt["seconds"] is not None or attempt["error"])


def _settled(reader: Reader, ended: Ended) -> Iterator[bytes]:
    # Its number is the one after the last event's, so who has it already has nothing to follow.
    if _lacks_error(reader, ended):
        yield sse.numbered([sse.error(failure(ended))], (ended.events or reader.number) + 1)
    facts = {"status": ended.status, "credits_consumed": ended.charged}
    yield _named("settled", {"job": reader.waiter.job_id} | facts)


def _lacks_error(reader: Reader, ended: Ended) -> bool:
    failed = reader.streamed and ended.status != Status.COMPLETED and not reader.complete
    return failed and reader.number <= (ended.events or 0)


def _numbered(events: Events) -> bytes:
    said = events.data.removesuffix(EVENT_END).split(EVENT_END)
    return sse.numbered([event + EVENT_END for event in said], events.first)


def _named(name: str, facts: dict[str, Any]) -> bytes:
    return f"event: job.{name}\n".encode() + sse.event(facts)
