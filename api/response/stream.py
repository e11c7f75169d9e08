"""The caller's own stream: the job's events as they arrive, comments while there are none."""

import contextlib
import time
from collections.abc import Iterator

from flask import Response, g

from api.response import answer, headers
from api.response.delivered import mark
from api.response.listening import Wait, listening
from api.server.client import ClientDisconnected
from config.settings import settings
from jobs.following.reader import Reader, failure
from jobs.following.wait import WaitInterrupted, poll_end
from jobs.lifecycle import cancel, store, throughput
from jobs.streaming import log as stream_log
from jobs.streaming import sse
from jobs.streaming.messages import Ended, Events
from models.errors import LikeDoError, StreamLogGone, Unavailable
from models.job import Job, Status

#: A comment is sent after each so many seconds of silence.
COMMENT_SECONDS = 10
#: Events that are there already go to the client in one write of up to about this size.
MAX_WRITE_BYTES = 64 * 1024

KEEP_ALIVE = sse.comment("keep-alive")

HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",
}

#: What a reader returns: events, the job's end, why the wait was interrupted, or None for silence.
ReadResult = Events | Ended | WaitInterrupted | None


def stream(wait: Wait, cancels: bool) -> Response:
    """Return a job's stream once its first chunk is there, or after `STREAM_COMMIT_SECONDS`.

    Until then a failure is raised, so that it gets a status of its own. `cancels`: the job is
    cancelled if its client disconnects.
    """
    wait.watch_client()
    return _begin(Reader(wait.subscription), wait, cancels)


def join(row: Job) -> Response:
    """Return, from its beginning, the stream of a job that an earlier request made.

    Raises `StreamLogGone` if that is not kept any more.
    """
    with listening(row.id) as wait:
        wait.watch_client()
        reader = Reader(wait.subscription)
        wait.wait_until_confirmed()
        catch_up(reader, row)
        # A caller that joined a job does not cancel it for others; its worker ends it once it has
        # no listeners.
        return _begin(reader, wait, cancels=False)


def _begin(reader: Reader, wait: Wait, cancels: bool) -> Response:
    first = reader.read(settings.stream_commit_seconds)
    if isinstance(first, WaitInterrupted):
        raise _interrupted(wait.job_id, first, cancels)
    if isinstance(first, Ended) and first.status != Status.COMPLETED:
        answer.remember_headers(wait.job_id, first)
        answer.mark_failure_delivered(wait)
        raise failure(first)
    return wait.until_closed(response(_relay(reader, first, wait, cancels), first))


def response(body: Iterator[bytes], first: ReadResult) -> Response:
    """Return an event stream; its headers name the provider if `first` is events."""
    provider = headers.of_source(first.source) if isinstance(first, Events) else {}
    return Response(body, headers=HEADERS | g.get("job_headers", {}) | provider)


def _interrupted(job_id: str, reason: WaitInterrupted, cancels: bool) -> Exception:
    """Return the error for an interrupted wait, after doing what it means for the job."""
    if reason is WaitInterrupted.DISCONNECTED:
        answer.on_disconnect(job_id, cancels)
        return ClientDisconnected()
    return _broken_off(job_id, Unavailable("The server is restarting. Try again."), cancels)


def _broken_off(job_id: str, error: LikeDoError, cancels: bool) -> LikeDoError:
    """Return the error for a stream that we break off.

    The job is cancelled, free of charge, or goes on; then the error names the URL of its events.
    """
    with contextlib.suppress(Unavailable):  # Its worker notices that it has no listeners.
        if cancels:
            cancel.cancel(job_id, error)
            return error
        store.mark_left(job_id)
    elsewhere = f"The stream broke off and goes on at /api/v1/ai/jobs/{job_id}/events."
    return Unavailable(f"{elsewhere} {error.message}")


def _relay(reader: Reader, result: ReadResult, wait: Wait, cancels: bool) -> Iterator[bytes]:
    """Yield the stream to the client that requested it, beginning with `result`."""
    try:
        while not isinstance(result, Ended | WaitInterrupted):
            if result is None:
                yield _comment(reader, wait.job_id)
            else:
                data, result = _gather(reader, result)
                yield data
            result = result or reader.read(COMMENT_SECONDS)
        if isinstance(result, Ended):
            yield from _finish(reader, result, wait)
        elif isinstance(error := _interrupted(wait.job_id, result, cancels), LikeDoError):
            yield sse.error(error)
    except StreamLogGone as error:
        # The client was too slow, which counts as a disconnect.
        answer.on_disconnect(wait.job_id, cancels)
        yield sse.error(error)
    except LikeDoError as error:
        yield sse.error(_broken_off(wait.job_id, error, cancels))
    except GeneratorExit:
        if reader.ended is None:
            answer.on_disconnect(wait.job_id, cancels)
        raise


def _finish(reader: Reader, ended: Ended, wait: Wait) -> Iterator[bytes]:
    if not reader.complete:
        yield sse.error(failure(ended))
    if ended.status == Status.COMPLETED and not wait.client.is_disconnected():
        mark(wait.job_id)


def _gather(reader: Reader, events: Events) -> tuple[bytes, ReadResult]:
    """Return the bytes of all events that have arrived, and what was read after them, if any."""
    data, size = [events.data], len(events.data)
    while size < MAX_WRITE_BYTES and reader.has_more():
        result = reader.read(0)
        if not isinstance(result, Events):
            return b"".join(data), result
        data.append(result.data)
        size += len(result.data)
    return b"".join(data), None


def _comment(reader: Reader, job_id: str) -> bytes:
    """Return a sign of life: the job's queue position while it waits for a worker."""
    if reader.number:
        return KEEP_ALIVE
    try:
        row = store.find(job_id)
        return queue_comments(row) if row is not None else KEEP_ALIVE
    except Unavailable:
        return KEEP_ALIVE


def queue_comments(row: Job) -> bytes:
    """Return comments with a queued job's position and, if it can be estimated, its wait.

    Raises `Unavailable`.
    """
    position = store.position(row)
    if position is None:
        return KEEP_ALIVE
    comment = sse.comment(f"queued position={position}")
    seconds = throughput.wait_seconds(row.kind, position)
    if seconds is None:
        return comment
    return comment + sse.comment(f"estimated_wait_seconds={seconds}")


def catch_up(reader: Reader, row: Job) -> None:
    """Let the reader read the log first, and a finished job's stream to its end.

    Raises `StreamLogGone` if the stream is not kept any more.
    """
    ended = poll_end(row.id)
    if ended is None:
        reader.catch_up()
        return
    if row.stream and (row.finished_at or time.time()) < time.time() - stream_log.ENDED_TTL_SECONDS:
        raise StreamLogGone(f"The stream of job {row.id} is not kept any more.")
    reader.end(ended)
