"""Answering a retry with the job of the first request."""

from flask import Response, g

from api.request import admission, idempotency, prefer
from api.request import body as request_body
from api.response import answer, job, stream
from jobs.lifecycle import store
from models import bounded_json
from models.job import Job


def answer_retry(body: bytes) -> Response | None:
    """Return the answer of the job that a request with `body` retries; None if it is new.

    Raises `IdempotencyKeyReused` if the caller's `Idempotency-Key` names another request.
    """
    row = idempotency.by_key() or idempotency.by_sdk_retry()
    if row is None:
        return None
    admission.peek()
    return _answer(row, body)


def answer_existing(job_id: str, body: bytes) -> Response:
    """Return the answer of the job that took the caller's `Idempotency-Key` a moment before.

    Raises `IdempotencyKeyReused` if that was for another request.
    """
    row = store.find(job_id)
    assert row is not None
    if row.fingerprint != request_body.fingerprint():
        raise idempotency.key_reused()
    return _answer(row, body)


def _answer(row: Job, body: bytes) -> Response:
    """Return the answer of a job that an earlier request with the same `body` made."""
    g.job_headers = {"x-job-id": row.id, "Idempotent-Replayed": "true"}
    # `Prefer` may have been on the first request only: an SDK takes a 202 for an answer.
    if row.asynchronous and (prefer.respond_async() or _is_background(body)):
        return job.accepted(row.id)
    if row.stream:
        return stream.join(row)
    return answer.join(row)


def _is_background(body: bytes) -> bool:
    """Tell whether a `body` that was accepted before has `"background": true`."""
    return bounded_json.loads(body).get("background") is True
