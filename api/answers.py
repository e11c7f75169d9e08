"""Handing a job's answer to the client that waits for it."""

import contextlib
import errno
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import gevent
import structlog
from flask import Response, g, request
from sqlalchemy import Row

from access import keys
from api import errors as envelope
from api import pictures, prefer, sdk
from api.client import Client, Gone, current
from api.handover import handed_over
from config.settings import settings
from jobs import cancelling, rows, upkeep, waiting
from jobs.channel import Listener, Waiter
from jobs.messages import Ended
from jobs.waiting import Interruption
from models import errors
from models.job import IMAGES, Status

log = structlog.get_logger()

#: Between the newlines that keep a connection alive while its job runs.
KEEP_ALIVE_SECONDS = 10
#: However short a wait a client announces, it gets no more newlines than this.
LEAST_PAUSE_SECONDS = 0.5
#: Of the wait that an SDK announces, we use this part before we show signs of life.
PATIENCE = 0.8

CLIENT_GONE = errors.JobCancelled("The client went away.")


@cache
def listener() -> Listener:
    """Return this process's ear for its jobs."""
    listener = Listener({keys.CHANGED_CHANNEL: keys.forget})
    gevent.spawn(upkeep.watch_over, listener)
    return listener


#: Returns the answer that a job keeps as callers get it: how many bytes, and the bytes, in pieces.
Render = Callable[[bytes], tuple[int, Iterator[bytes]]]


def as_it_is(body: bytes) -> tuple[int, Iterator[bytes]]:
    return len(body), iter([body])


def join(row: Row[Any]) -> Response:
    """Wait for the job that somebody asked for before, and return its answer."""
    waiter = listener().listen(row.id)
    try:
        waiter.ready()
        if (ended := waiting.look_around(row.id)) is not None:
            waiter.heard.put(ended)
    except BaseException:
        waiter.close()
        raise
    render = pictures.renderer() if row.kind in IMAGES else as_it_is
    # Who came to join it does not end it for others.
    return wait(waiter, False, render)


def wait(waiter: Waiter, cancels: bool, render: Render = as_it_is) -> Response:
    """Wait for the job and return its answer; or, when that takes long, one that goes on.

    `cancels`: the job ends with its client.
    """
    client = current()
    client.watch(lambda: waiter.heard.put(Interruption.HUNG_UP))
    try:
        ended = waiting.wait(waiter, _patience())
    except BaseException:
        part(waiter, client)
        raise
    if ended is None and _relays():
        part(waiter, client)
        raise _in_progress(waiter.job_id)
    if ended is None:
        return _go_on(waiter, client, cancels, render)
    part(waiter, client)
    if ended is Interruption.HUNG_UP:
        hung_up(waiter.job_id, cancels)
        raise Gone
    return _respond(waiter.job_id, ended, client, render)


def part(waiter: Waiter, client: Client) -> None:
    """Stop listening to a job, and watching the client that waited for it."""
    client.leave()
    waiter.close()


def _respond(job_id: str, ended: Ended | Interruption, client: Client, render: Render) -> Response:
    if ended is Interruption.STOPPING:
        g.job_headers["Location"] = f"/api/v1/ai/jobs/{job_id}"
        raise errors.JobInProgress(f"The server is restarting; fetch the answer as job {job_id}.")
    assert isinstance(ended, Ended)
    if ended.status != Status.COMPLETED:
        note(job_id, ended)
        tell_failure(job_id, client)
        raise errors.from_record(ended.error or {})
    return _completed(job_id, ended, client, render)


def tell_failure(job_id: str, client: Client) -> None:
    """Note that a client is told of its job's failure, before it is: it may try again at once."""
    if client.gone():
        return
    with contextlib.suppress(errors.Unavailable):  # Then its retry is told of the same failure.
        rows.mark_handed_over([job_id])


def hung_up(job_id: str, cancels: bool) -> None:
    """Let a job go on without its client, and be charged; or end it with its client."""
    if cancels:
        cancelling.cancel(job_id, CLIENT_GONE)
    else:
        rows.mark_left(job_id)


def _completed(job_id: str, ended: Ended, client: Client, render: Render) -> Response:
    if ended.body is None:
        raise errors.InternalError(f"The answer of job {job_id} is no longer kept.")
    length, pieces = render(ended.body)
    headers = _facts(job_id, ended) | {"Content-Length": str(length)}
    body = _hand_over(job_id, pieces, client)
    return Response(body, content_type="application/json", headers=headers)


def _hand_over(job_id: str, pieces: Iterator[bytes], client: Client) -> Iterator[bytes]:
    """Yield an answer, and note that it was handed over if it went to a client that was there."""
    gone = client.gone()
    yield from pieces
    # The server asks for more only when what it had is with the socket.
    if not gone:
        handed_over(job_id)


def note(job_id: str, ended: Ended) -> None:
    """Remember the job's headers for the error that is about to be raised."""
    g.job_headers.update(_facts(job_id, ended))


def _facts(job_id: str, ended: Ended) -> dict[str, str]:
    return dict(g.job_headers) | envelope.headers_of(
        {
            "x-job-id": job_id,
            **envelope.facts_of(ended.source),
            "x-credits-consumed": ended.charged,
            "x-credits-remaining": ended.available,
        }
    )


def _patience() -> float | None:
    """Return the seconds until the first sign of life is due; None where it never is."""
    wanted = [seconds for seconds in (prefer.wait_seconds(), _before_its_timeout()) if seconds]
    if settings.sync_wait_seconds:
        wanted.append(settings.sync_wait_seconds)
    elif prefer.wait_seconds() is None:
        return None
    return min(wanted, default=None)


def _before_its_timeout() -> float | None:
    seconds = sdk.timeout_seconds()
    return None if seconds is None else seconds * PATIENCE


def _relays() -> bool:
    """Tell whether the client comes back by itself for what takes longer than it waits."""
    return settings.sync_relay and prefer.wait_seconds() is None and sdk.has_retries_left()


def _in_progress(job_id: str) -> errors.JobInProgress:
    """Return what an SDK is told that is to come back at once: its retry joins the job."""
    # Who does not come back is taken for gone.
    rows.mark_left(job_id)
    g.job_headers |= {"Location": f"/api/v1/ai/jobs/{job_id}", "retry-after-ms": "1"}
    return errors.JobInProgress(
        f"The answer takes longer than this connection may: it is made as job {job_id}. Send the "
        "same request again to wait for it."
    )


def _go_on(waiter: Waiter, client: Client, cancels: bool, render: Render) -> Response:
    """Return 200 now, newlines while the job runs, then its JSON.

    A failure cuts the connection before the body's end. JSON may begin with white space.
    """
    announced = sdk.timeout_seconds()
    pause = min(KEEP_ALIVE_SECONDS, max(LEAST_PAUSE_SECONDS, (announced or 60) * PATIENCE))
    headers = dict(g.job_headers) | {"x-job-id": waiter.job_id, "x-accel-buffering": "no"}
    chunked = request.environ["SERVER_PROTOCOL"] != "HTTP/1.0"
    response = Response(
        _newlines_then_answer(waiter, client, pause, chunked, cancels, render),
        content_type="application/json",
        headers=headers,
    )
    response.call_on_close(lambda: part(waiter, client))
    return response


def _newlines_then_answer(
    waiter: Waiter, client: Client, pause: float, chunked: bool, cancels: bool, render: Render
) -> Iterator[bytes]:
    try:
        ended: Ended | Interruption | None = None
        while ended is None:
            yield b"\n"
            ended = waiting.wait(waiter, pause)
        if ended is Interruption.HUNG_UP:
            hung_up(waiter.job_id, cancels)
        elif isinstance(ended, Ended) and ended.body and ended.status == Status.COMPLETED:
            yield from _hand_over(waiter.job_id, render(ended.body)[1], client)
        else:
            part(waiter, client)
            if not chunked:
                client.reset()
            # The server closes the connection without the last chunk.
            raise ConnectionResetError(errno.ECONNRESET, "The job failed after its headers went.")
    except GeneratorExit:
        hung_up(waiter.job_id, cancels)
        raise
