"""A job's answer as JSON: wait for its end, keep the connection alive meanwhile, report failure."""

import contextlib
import errno
from collections.abc import Callable, Iterator

from flask import Response, g, request

from api.request import prefer, sdk
from api.response import headers, images
from api.response.delivered import mark
from api.response.listening import Wait, listening
from api.server.client import Client, ClientDisconnected
from config.settings import settings
from jobs.following.wait import WaitInterrupted, poll_end, wait_for_end
from jobs.lifecycle import cancel, store
from jobs.streaming.messages import Ended
from models import errors
from models.errors import InternalError, JobCancelled, JobInProgress, Unavailable
from models.job import Job, Status

#: Between the newlines that keep a connection alive while its job runs.
KEEP_ALIVE_SECONDS = 10
#: Newlines are never closer together than this, however short a timeout a client announces.
MIN_PAUSE_SECONDS = 0.5
#: The share of an SDK's announced timeout that may pass before a sign of life.
TIMEOUT_SHARE = 0.8

CLIENT_GONE = JobCancelled("The client went away.")


#: Renders a job's stored answer for callers: the number of bytes, and the bytes in pieces.
Render = Callable[[bytes], tuple[int, Iterator[bytes]]]


def unchanged(body: bytes) -> tuple[int, Iterator[bytes]]:
    """Return a stored answer as it is."""
    return len(body), iter([body])


def join(row: Job) -> Response:
    """Wait for a job that an earlier request made, and return its answer."""
    with listening(row.id) as wait:
        wait.wait_until_confirmed()
        if (ended := poll_end(row.id)) is not None:
            wait.put(ended)
        # A caller that joined a job does not cancel it for others.
        return answer_when_done(wait, cancels=False, render=images.renderer(row.kind))


def answer_when_done(wait: Wait, cancels: bool, render: Render = unchanged) -> Response:
    """Wait for the job and return its answer; if that takes long, a response that keeps waiting.

    `cancels`: the job is cancelled if its client disconnects.
    """
    wait.watch_client()
    ended = wait_for_end(wait.subscription, _first_wait())
    if ended is None and _relays():
        raise _in_progress(wait.job_id)
    if ended is None:
        return wait.until_closed(_relay_newlines(wait, cancels, render))
    if ended is WaitInterrupted.DISCONNECTED:
        on_disconnect(wait.job_id, cancels)
        raise ClientDisconnected
    return _respond(wait, ended, render)


def _respond(wait: Wait, ended: Ended | WaitInterrupted, render: Render) -> Response:
    if ended is WaitInterrupted.STOPPING:
        g.job_headers["Location"] = f"/api/v1/ai/jobs/{wait.job_id}"
        raise JobInProgress(f"The server is restarting; fetch the answer as job {wait.job_id}.")
    assert isinstance(ended, Ended)
    if ended.status != Status.COMPLETED:
        remember_headers(wait.job_id, ended)
        mark_failure_delivered(wait)
        raise errors.from_record(ended.error or {})
    return _completed(wait, ended, render)


def mark_failure_delivered(wait: Wait) -> None:
    """Record that a job's failure is delivered, before it is: the client may retry at once."""
    if wait.client.is_disconnected():
        return
    with contextlib.suppress(Unavailable):  # Then its retry gets the same failure.
        store.mark_delivered([wait.job_id])


def on_disconnect(job_id: str, cancels: bool) -> None:
    """Cancel the job of a client that disconnected, or let it go on, to be charged."""
    if cancels:
        cancel.cancel(job_id, CLIENT_GONE)
    else:
        store.mark_left(job_id)


def _completed(wait: Wait, ended: Ended, render: Render) -> Response:
    if ended.body is None:
        raise InternalError(f"The answer of job {wait.job_id} is no longer kept.")
    length, pieces = render(ended.body)
    job_headers = _headers_of(wait.job_id, ended) | {"Content-Length": str(length)}
    body = _deliver(wait.job_id, pieces, wait.client)
    return Response(body, content_type="application/json", headers=job_headers)


def _deliver(job_id: str, pieces: Iterator[bytes], client: Client) -> Iterator[bytes]:
    """Yield an answer, and mark it delivered unless the client had disconnected before."""
    was_disconnected = client.is_disconnected()
    yield from pieces
    # The server asks for more only once the socket has taken what came before.
    if not was_disconnected:
        mark(job_id)


def remember_headers(job_id: str, ended: Ended) -> None:
    """Store the job's headers for the error that is about to be raised."""
    g.job_headers.update(_headers_of(job_id, ended))


def _headers_of(job_id: str, ended: Ended) -> dict[str, str]:
    credits = {"x-credits-consumed": ended.charged, "x-credits-remaining": ended.available}
    return (
        dict(g.job_headers)
        | {"x-job-id": job_id}
        | headers.of_source(ended.source)
        | headers.known(credits)
    )


def _first_wait() -> float | None:
    """Return the seconds until the first sign of life is due; None if none ever is."""
    limits = [seconds for seconds in (prefer.wait_seconds(), _share_of_timeout()) if seconds]
    if settings.sync_wait_seconds:
        limits.append(settings.sync_wait_seconds)
    elif prefer.wait_seconds() is None:
        return None
    return min(limits, default=None)


def _share_of_timeout() -> float | None:
    seconds = sdk.timeout_seconds()
    return None if seconds is None else seconds * TIMEOUT_SHARE


def _relays() -> bool:
    """Tell whether a client whose wait takes too long gets a 503 that its SDK retries by itself."""
    return settings.sync_relay and prefer.wait_seconds() is None and sdk.has_retries_left()


def _in_progress(job_id: str) -> JobInProgress:
    """Return the error that makes an SDK come back at once; its retry joins the job."""
    # A client that does not come back counts as disconnected.
    store.mark_left(job_id)
    g.job_headers |= {"Location": f"/api/v1/ai/jobs/{job_id}", "retry-after-ms": "1"}
    return JobInProgress(
        f"The answer takes longer than this connection may: it is made as job {job_id}. Send the "
        "same request again to wait for it."
    )


def _relay_newlines(wait: Wait, cancels: bool, render: Render) -> Response:
    """Return 200 now, newlines while the job runs, then its JSON.

    A failure cuts the connection before the body's end. JSON may begin with white space.
    """
    timeout = sdk.timeout_seconds()
    pause = min(KEEP_ALIVE_SECONDS, max(MIN_PAUSE_SECONDS, (timeout or 60) * TIMEOUT_SHARE))
    chunked = request.environ["SERVER_PROTOCOL"] != "HTTP/1.0"
    return Response(
        _newlines_then_answer(wait, pause, chunked, cancels, render),
        content_type="application/json",
        headers=dict(g.job_headers) | {"x-job-id": wait.job_id, "x-accel-buffering": "no"},
    )


def _newlines_then_answer(
    wait: Wait, pause: float, chunked: bool, cancels: bool, render: Render
) -> Iterator[bytes]:
    try:
        ended: Ended | WaitInterrupted | None = None
        while ended is None:
            yield b"\n"
            ended = wait_for_end(wait.subscription, pause)
        if ended is WaitInterrupted.DISCONNECTED:
            on_disconnect(wait.job_id, cancels)
        elif isinstance(ended, Ended) and ended.body and ended.status == Status.COMPLETED:
            yield from _deliver(wait.job_id, render(ended.body)[1], wait.client)
        else:
            if not chunked:
                wait.client.reset()
            # The server closes the connection without the last chunk.
            raise ConnectionResetError(errno.ECONNRESET, "The job failed after its headers went.")
    except GeneratorExit:
        on_disconnect(wait.job_id, cancels)
        raise
