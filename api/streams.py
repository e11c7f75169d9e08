"""Streams on the wire: a job's events relayed to its caller, and to whoever else may read them."""

import time
from collections.abc import Callable, Iterator
from typing import Any

from flask import Response, g
from sqlalchemy import Row

from api import answers
from api.client import Gone, current
from api.handover import handed_over
from config.settings import settings
from jobs import cancelling, rows, sse, stream_log
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
#: A reader of a job that waits for a worker is told within this time that it has begun.
TRAIL_SECONDS = 1

HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",
}

STOPPING = errors.Unavailable("The server is restarting. Try again.")

Said = Events | Ended | Interruption | None


def stream(waiter: Waiter, cancels: bool) -> Response:
    """Return a job's stream once its first chunk is there, or after `STREAM_COMMIT_SECONDS`.

    Until then a failure is raised, to become a status. `cancels`: the job ends with its client.
    """
    client = current()
    client.watch(lambda: waiter.heard.put(Interruption.HUNG_UP))
    reader = Reader(waiter)
    try:
        said = reader.read(settings.stream_commit_seconds)
        if isinstance(said, Interruption):
            raise _interrupted(waiter.job_id, said, cancels)
        if isinstance(said, Ended) and said.status != Status.COMPLETED:
            answers.note(waiter.job_id, said)
            raise failure(said)
    except BaseException:
        answers.part(waiter, client)
        raise
    return _response(_relay(reader, said, cancels), said, lambda: answers.part(waiter, client))


def _response(body: Iterator[bytes], said: Said, part: Callable[[], None]) -> Response:
    provider = {"x-provider": said.provider} if isinstance(said, Events) and said.provider else {}
    response = Response(body, headers=HEADERS | g.get("job_headers", {}) | provider)
    response.call_on_close(part)
    return response


def _interrupted(job_id: str, why: Interruption, cancels: bool) -> Exception:
    """Do what follows for the job when its client is gone, or this process about to go."""
    if why is Interruption.STOPPING:
        cancelling.cancel(job_id, STOPPING)
        return STOPPING
    answers.hung_up(job_id, cancels)
    return Gone()


def _relay(reader: Reader, said: Said, cancels: bool) -> Iterator[bytes]:
    """Yield what goes to the client that asked for the stream."""
    job_id = reader.waiter.job_id
    try:
        while not isinstance(said, Ended):
            if isinstance(said, Interruption):
                yield from _part_early(job_id, said, cancels)
                return
            if said is None:
                yield _comment(reader)
            else:
                data, said = _gather(reader, said)
                yield data
            said = said or reader.read(COMMENT_SECONDS)
        if not reader.complete:
            yield sse.error(failure(said))
        handed_over(job_id)
    except errors.LikeDoError as error:
        yield sse.error(error)
    except GeneratorExit:
        if reader.ended is None:
            answers.hung_up(job_id, cancels)
        raise


def _part_early(job_id: str, why: Interruption, cancels: bool) -> Iterator[bytes]:
    error = _interrupted(job_id, why, cancels)
    if isinstance(error, errors.LikeDoError):
        yield sse.error(error)


def _gather(reader: Reader, events: Events) -> tuple[bytes, Said]:
    """Return the bytes of all events that have come, and what was said after them, if anything."""
    data, size = [events.data], len(events.data)
    while size < MOST_WRITE_BYTES:
        said = reader.read(0)
        if not isinstance(said, Events):
            return b"".join(data), said
        data.append(said.data)
        size += len(said.data)
    return b"".join(data), None


def _comment(reader: Reader) -> bytes:
    """Return a sign of life: where the job stands, as long as it waits for a worker."""
    if reader.number:
        return sse.comment("keep-alive")
    try:
        row = rows.find(reader.waiter.job_id)
        position = rows.position(row) if row is not None else None
    except errors.Unavailable:
        position = None
    return sse.comment(f"queued position={position}" if position else "keep-alive")


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
    try:
        yield _trail("queued", {"job": row.id, "created": int(row.created)})
        started = yield from _start(row)
        silent = 0.0
        while not isinstance(said, Ended | Interruption):
            if said is not None:
                started = started or (yield from _start(rows.find(row.id)))
                yield _numbered(said)
                silent = 0
            elif silent >= COMMENT_SECONDS:
                yield sse.comment("keep-alive")
                silent = 0
            elif not started:
                started = yield from _start(rows.find(row.id))
            patience = COMMENT_SECONDS if started else TRAIL_SECONDS
            said = reader.read(patience)
            silent += patience if said is None else 0
        if isinstance(said, Ended):
            yield from _settled(reader, said)
    except errors.LikeDoError as error:
        yield sse.numbered([sse.error(error)], reader.number + 1)


def _start(row: Row[Any] | None) -> Any:
    """Yield that a job was begun, if it was; return whether."""
    if row is None or row.started_at is None:
        return False
    facts = {"job": row.id, "attempt": row.attempts, "started_at": int(row.started_at)}
    yield _trail("started", facts)
    return True


def _settled(reader: Reader, ended: Ended) -> Iterator[bytes]:
    job_id = reader.waiter.job_id
    if reader.streamed and ended.status != Status.COMPLETED and not reader.complete:
        yield sse.numbered([sse.error(failure(ended))], reader.number + 1)
    facts = {"job": job_id, "status": ended.status, "credits_consumed": ended.charged}
    yield _trail("settled", facts)


def _numbered(events: Events) -> bytes:
    said = events.data.removesuffix(EVENT_END).split(EVENT_END)
    return sse.numbered([event + EVENT_END for event in said], events.first)


def _trail(name: str, facts: dict[str, Any]) -> bytes:
    return f"event: job.{name}\n".encode() + sse.event(facts)
