"""The caller's own stream: the job's events as they come, comments while it is silent."""

import contextlib
import time
from collections.abc import Callable, Iterator

from flask import Response, g

from api import errors
from api.response import answer
from api.response.delivered import mark
from api.server.client import Client, Gone, current
from config.settings import settings
from jobs.following import listener
from jobs.following.reader import Reader, failure
from jobs.following.wait import WaitInterrupted, poll_end
from jobs.lifecycle import cancel, store, throughput
from jobs.streaming import log as stream_log
from jobs.streaming import sse
from jobs.streaming.messages import Ended, Events
from jobs.streaming.pubsub import Subscription
from models.errors import LikeDoError, StreamLogGone, Unavailable
from models.job import Job, Status

#: A comment follows each so many seconds of silence.
COMMENT_SECONDS = 10
#: What has come meanwhile goes to the client in one write, up to this.
MAX_WRITE_BYTES = 64 * 1024

KEEP_ALIVE = sse.comment("keep-alive")

HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",
}

Waited = Events | Ended | WaitInterrupted | None


def stream(waiter: Subscription, cancels: bool) -> Response:
    """Return a job's stream once its first chunk is there, or after `STREAM_COMMIT_SECONDS`.

    Until then a failure is raised, to become a status. `cancels`: the job ends with its client.
    """
    client = current()
    client.watch(lambda: waiter.inbox.put(WaitInterrupted.HUNG_UP))
    return _begin(Reader(waiter), client, cancels)


def _begin(reader: Reader, client: Client, cancels: bool) -> Response:
    waiter = reader.subscription
    try:
        said = reader.read(settings.stream_commit_seconds)
        if isinstance(said, WaitInterrupted):
            raise _interrupted(waiter.job_id, said, cancels)
        if isinstance(said, Ended) and said.status != Status.COMPLETED:
            answer.remember_headers(waiter.job_id, said)
            answer.mark_failure_delivered(waiter.job_id, client)
            raise failure(said)
    except BaseException:
        answer.stop_waiting(waiter, client)
        raise
    body = _relay(reader, said, client, cancels)
    return response(body, said, lambda: answer.stop_waiting(waiter, client))


def join(row: Job) -> Response:
    """Return the stream that somebody asked for before, from its beginning.

    Raises `StreamLogGone` where that is not kept any more.
    """
    waiter = listener.listener().listen(row.id)
    client = current()
    client.watch(lambda: waiter.inbox.put(WaitInterrupted.HUNG_UP))
    reader = Reader(waiter)
    try:
        waiter.wait_until_confirmed()
        catch_up(reader, row)
    except BaseException:
        answer.stop_waiting(waiter, client)
        raise
    # Who came to join it does not end it for others; with nobody left its worker ends it.
    return _begin(reader, client, False)


def response(body: Iterator[bytes], said: Waited, part: Callable[[], None]) -> Response:
    source = errors.facts_of(said.source) if isinstance(said, Events) else {}
    headers = HEADERS | g.get("job_headers", {}) | errors.headers_of(source)
    response = Response(body, headers=headers)
    response.call_on_close(part)
    return response


def _interrupted(job_id: str, why: WaitInterrupted, cancels: bool) -> Exception:
    """Do what follows for the job when its client is gone, or this process about to go."""
    if why is WaitInterrupted.HUNG_UP:
        answer.on_disconnect(job_id, cancels)
        return Gone()
    return _broken_off(job_id, Unavailable("The server is restarting. Try again."), cancels)


def _broken_off(job_id: str, error: LikeDoError, cancels: bool) -> LikeDoError:
    """End a job whose stream we break off, free of charge; or let it go on and say where."""
    with contextlib.suppress(Unavailable):  # Its worker notices that nobody listens.
        if cancels:
            cancel.cancel(job_id, error)
            return error
        store.mark_left(job_id)
    where = f"The stream broke off and goes on at /api/v1/ai/jobs/{job_id}/events."
    return Unavailable(f"{where} {error.message}")


def _relay(reader: Reader, said: Waited, client: Client, cancels: bool) -> Iterator[bytes]:
    """Yield what goes to the client that asked for the stream."""
    job_id = reader.subscription.job_id
    try:
        while not isinstance(said, Ended | WaitInterrupted):
            if said is None:
                yield _comment(reader)
            else:
                data, said = _gather(reader, said)
                yield data
            said = said or reader.read(COMMENT_SECONDS)
        if isinstance(said, Ended):
            yield from _close(reader, said, client)
        elif isinstance(error := _interrupted(job_id, said, cancels), LikeDoError):
            yield sse.error(error)
    except StreamLogGone as error:
        # The client was too slow: as good as gone.
        answer.on_disconnect(job_id, cancels)
        yield sse.error(error)
    except LikeDoError as error:
        yield sse.error(_broken_off(job_id, error, cancels))
    except GeneratorExit:
        if reader.ended is None:
            answer.on_disconnect(job_id, cancels)
        raise


def _close(reader: Reader, ended: Ended, client: Client) -> Iterator[bytes]:
    if not reader.complete:
        yield sse.error(failure(ended))
    if ended.status == Status.COMPLETED and not client.gone():
        mark(reader.subscription.job_id)


def _gather(reader: Reader, events: Events) -> tuple[bytes, Waited]:
    """Return the bytes of all events that have come, and what was said after them, if anything."""
    data, size = [events.data], len(events.data)
    while size < MAX_WRITE_BYTES and reader.has_more():
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
        row = store.find(reader.subscription.job_id)
        return standing(row) if row is not None else KEEP_ALIVE
    except Unavailable:
        return KEEP_ALIVE


def standing(row: Job) -> bytes:
    """Return as comments where a waiting job stands, and how long it will wait where one can tell.

    Raises `Unavailable`.
    """
    position = store.position(row)
    if position is None:
        return KEEP_ALIVE
    said = sse.comment(f"queued position={position}")
    wait = throughput.wait_seconds(row.kind, position)
    return said if wait is None else said + sse.comment(f"estimated_wait_seconds={wait}")


def catch_up(reader: Reader, row: Job) -> None:
    """Read from the log first, and to the end of a job that has ended."""
    ended = poll_end(row.id)
    if ended is None:
        reader.catch_up()
        return
    if row.stream and (row.finished_at or time.time()) < time.time() - stream_log.ENDED_TTL_SECONDS:
        raise StreamLogGone(f"The stream of job {row.id} is not kept any more.")
    reader.end(ended)
