"""One JSON answer: wait for its job, relay or keep the connection alive, report failure."""

import contextlib
import errno
from collections.abc import Callable, Iterator

import structlog
from flask import Response, g, request

from api import errors as envelope
from api.request import prefer, sdk
from api.response import images
from api.response.delivered import mark
from api.server.client import Client, Gone, current
from config.settings import settings
from jobs.following import listener, wait
from jobs.following.wait import WaitInterrupted, wait_for_end
from jobs.lifecycle import cancel, store
from jobs.streaming.messages import Ended
from jobs.streaming.pubsub import Subscription
from models import errors
from models.errors import InternalError, JobCancelled, JobInProgress, Unavailable
from models.job import Job, Status

log = structlog.get_logger()

#: Between the newlines that keep a connection alive while its job runs.
KEEP_ALIVE_SECONDS = 10
#: However short a wait a client announces, it gets no more newlines than this.
MIN_PAUSE_SECONDS = 0.5
#: Of the wait that an SDK announces, we use this part before we show signs of life.
TIMEOUT_SHARE = 0.8

CLIENT_GONE = JobCancelled("The client went away.")


#: Returns the answer that a job keeps as callers get it: how many bytes, and the bytes, in pieces.
Render = Callable[[bytes], tuple[int, Iterator[bytes]]]


def unchanged(body: bytes) -> tuple[int, Iterator[bytes]]:
    return len(body), iter([body])


def join(row: Job) -> Response:
    """Wait for the job that somebody asked for before, and return its answer."""
    waiter = listener.listener().listen(row.id)
    try:
        waiter.wait_until_confirmed()
        if (ended := wait.poll_end(row.id)) is not None:
            waiter.inbox.put(ended)
    except BaseException:
        waiter.close()
        raise
    render = images.renderer(row.kind)
    # Who came to join it does not end it for others.
    return answer_when_done(waiter, False, render)


def answer_when_done(waiter: Subscription, cancels: bool, render: Render = unchanged) -> Response:
    """Wait for the job and return its answer; or, when that takes long, one that goes on.

    `cancels`: the job ends with its client.
    """
    client = current()
    client.watch(lambda: waiter.inbox.put(WaitInterrupted.HUNG_UP))
    try:
        ended = wait_for_end(waiter, _first_wait())
    except BaseException:
        stop_waiting(waiter, client)
        raise
    if ended is None and _relays():
        stop_waiting(waiter, client)
        raise _in_progress(waiter.job_id)
    if ended is None:
        return _relay_newlines(waiter, client, cancels, render)
    stop_waiting(waiter, client)
    if ended is WaitInterrupted.HUNG_UP:
        on_disconnect(waiter.job_id, cancels)
        raise Gone
    return _respond(waiter.job_id, ended, client, render)


def stop_waiting(waiter: Subscription, client: Client) -> None:
    """Stop listening to a job, and watching the client that waited for it."""
    client.leave()
    waiter.close()


def _respond(
    job_id: str, ended: Ended | WaitInterrupted, client: Client, render: Render
) -> Response:
    if ended is WaitInterrupted.STOPPING:
        g.job_headers["Location"] = f"/api/v1/ai/jobs/{job_id}"
        raise JobInProgress(f"The server is restarting; fetch the answer as job {job_id}.")
    assert isinstance(ended, Ended)
    if ended.status != Status.COMPLETED:
        remember_headers(job_id, ended)
        mark_failure_delivered(job_id, client)
        raise errors.from_record(ended.error or {})
    return _completed(job_id, ended, client, render)


def mark_failure_delivered(job_id: str, client: Client) -> None:
    """Note that a client is told of its job's failure, before it is: it may try again at once."""
    if client.gone():
        return
    with contextlib.suppress(Unavailable):  # Then its retry is told of the same failure.
        store.mark_delivered([job_id])


def on_disconnect(job_id: str, cancels: bool) -> None:
    """Let a job go on without its client, and be charged; or end it with its client."""
    if cancels:
        cancel.cancel(job_id, CLIENT_GONE)
    else:
        store.mark_left(job_id)


def _completed(job_id: str, ended: Ended, client: Client, render: Render) -> Response:
    if ended.body is None:
        raise InternalError(f"The answer of job {job_id} is no longer kept.")
    length, pieces = render(ended.body)
    headers = _headers_of(job_id, ended) | {"Content-Length": str(length)}
    body = _deliver(job_id, pieces, client)
    return Response(body, content_type="application/json", headers=headers)


def _deliver(job_id: str, pieces: Iterator[bytes], client: Client) -> Iterator[bytes]:
    """Yield an answer, and note that it was handed over if it went to a client that was there."""
    gone = client.gone()
    yield from pieces
    # The server asks for more only when what it had is with the socket.
    if not gone:
        mark(job_id)


def remember_headers(job_id: str, ended: Ended) -> None:
    """Remember the job's headers for the error that is about to be raised."""
    g.job_headers.update(_headers_of(job_id, ended))


def _headers_of(job_id: str, ended: Ended) -> dict[str, str]:
    return dict(g.job_headers) | envelope.headers_of(
        {
            "x-job-id": job_id,
            **envelope.facts_of(ended.source),
            "x-credits-consumed": ended.charged,
            "x-credits-remaining": ended.available,
        }
    )


def _first_wait() -> float | None:
    """Return the seconds until the first sign of life is due; None where it never is."""
    wanted = [seconds for seconds in (prefer.wait_seconds(), _before_its_timeout()) if seconds]
    if settings.sync_wait_seconds:
        wanted.append(settings.sync_wait_seconds)
    elif prefer.wait_seconds() is None:
        return None
    return min(wanted, default=None)


def _before_its_timeout() -> float | None:
    seconds = sdk.timeout_seconds()
    return None if seconds is None else seconds * TIMEOUT_SHARE


def _relays() -> bool:
    """Tell whether the client comes back by itself for what takes longer than it waits."""
    return settings.sync_relay and prefer.wait_seconds() is None and sdk.has_retries_left()


def _in_progress(job_id: str) -> JobInProgress:
    """Return what an SDK is told that is to come back at once: its retry joins the job."""
    # Who does not come back is taken for gone.
    store.mark_left(job_id)
    g.job_headers |= {"Location": f"/api/v1/ai/jobs/{job_id}", "retry-after-ms": "1"}
    return JobInProgress(
        f"The answer takes longer than this connection may: it is made as job {job_id}. Send the "
        "same request again to wait for it."
    )


def _relay_newlines(
    waiter: Subscription, client: Client, cancels: bool, render: Render
) -> Response:
    """Return 200 now, newlines while the job runs, then its JSON.

    A failure cuts the connection before the body's end. JSON may begin with white space.
    """
    announced = sdk.timeout_seconds()
    pause = min(KEEP_ALIVE_SECONDS, max(MIN_PAUSE_SECONDS, (announced or 60) * TIMEOUT_SHARE))
    headers = dict(g.job_headers) | {"x-job-id": waiter.job_id, "x-accel-buffering": "no"}
    chunked = request.environ["SERVER_PROTOCOL"] != "HTTP/1.0"
    response = Response(
        _newlines_then_answer(waiter, client, pause, chunked, cancels, render),
        content_type="application/json",
        headers=headers,
    )
    response.call_on_close(lambda: stop_waiting(waiter, client))
    return response


def _newlines_then_answer(
    waiter: Subscription, client: Client, pause: float, chunked: bool, cancels: bool, render: Render
) -> Iterator[bytes]:
    try:
        ended: Ended | WaitInterrupted | None = None
        while ended is None:
            yield b"\n"
            ended = wait_for_end(waiter, pause)
        if ended is WaitInterrupted.HUNG_UP:
            on_disconnect(waiter.job_id, cancels)
        elif isinstance(ended, Ended) and ended.body and ended.status == Status.COMPLETED:
            yield from _deliver(waiter.job_id, render(ended.body)[1], client)
        else:
            stop_waiting(waiter, client)
            if not chunked:
                client.reset()
            # The server closes the connection without the last chunk.
            raise ConnectionResetError(errno.ECONNRESET, "The job failed after its headers went.")
    except GeneratorExit:
        on_disconnect(waiter.job_id, cancels)
        raise
