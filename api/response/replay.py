"""A retry is answered by the job of its first try."""

import orjson
from flask import Response, g

from api.request import admission, idempotency, prefer
from api.response import answer, job, stream
from jobs.lifecycle import store
from models.job import Job


def answer_retry(body: bytes) -> Response | None:
    """Return the answer of the job that a request with `body` is a retry of; None: it is new.

    Raises `IdempotencyKeyReused` where the caller's own key names another request.
    """
    found = idempotency.by_key(body) or idempotency.by_sdk_retry(body)
    if found is None:
        return None
    admission.peek()
    return answer_again(found, body)


def answer_again(row: Job, body: bytes) -> Response:
    """Return the answer of a job that somebody asked for before with the same `body`."""
    g.job_headers = {"x-job-id": row.id, "Idempotent-Replayed": "true"}
    # `Prefer` may have been the first request's alone: an SDK takes a 202 for an answer.
    if row.asynchronous and (prefer.asynchronously() or _says_background(body)):
        return job.accepted(row.id)
    if row.stream:
        return stream.join(row)
    return answer.join(row)


def _says_background(body: bytes) -> bool:
    """Tell whether a `body` that was taken on before asks for a job."""
    return orjson.loads(body).get("background") is True


def answer_existing(job_id: str, body: bytes) -> Response:
    """Return the answer of the job that took the caller's own key a moment before.

    Raises `IdempotencyKeyReused` where that was for another request.
    """
    row = store.find(job_id)
    assert row is not None
    if row.fingerprint != idempotency.fingerprint(body):
        raise idempotency.key_reused()
    return answer_again(row, body)
