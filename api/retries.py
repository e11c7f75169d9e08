"""Requests that are retries: each is answered by the job of its first try."""

import hashlib
from typing import Any

import orjson
from flask import Response, g, request
from sqlalchemy import Row

from api import answers, guards, jobs, prefer, sdk, streams
from jobs import retries, rows
from models import errors

HEADER = "Idempotency-Key"
MAX_NAME_CHARACTERS = 255


def answered(body: bytes) -> Response | None:
    """Return the answer of the job that a request with `body` is a retry of; None: it is new.

    Raises `IdempotencyKeyReused` where the caller's own key names another request.
    """
    found = _named(body) or _counted(body)
    if found is None:
        return None
    guards.look()
    return again(found, body)


def again(row: Row[Any], body: bytes) -> Response:
    """Return the answer of a job that somebody asked for before with the same `body`."""
    g.job_headers = {"x-job-id": row.id, "Idempotent-Replayed": "true"}
    # `Prefer` may have been the first request's alone: an SDK takes a 202 for an answer.
    if row.asynchronous and (prefer.asynchronously() or _says_background(body)):
        return jobs.accepted(row)
    if row.stream:
        return streams.join(row)
    return answers.join(row)


def _says_background(body: bytes) -> bool:
    """Tell whether a `body` that was taken on before asks for a job."""
    return orjson.loads(body).get("background") is True


def there(job_id: str, body: bytes) -> Response:
    """Return the answer of the job that took the caller's own key a moment before.

    Raises `IdempotencyKeyReused` where that was for another request.
    """
    row = rows.find(job_id)
    assert row is not None
    if row.fingerprint != fingerprint(body):
        raise reused()
    return again(row, body)


def _named(body: bytes) -> Row[Any] | None:
    digest = name()
    row = retries.by_name(guards.caller().key_id, digest) if digest else None
    if row is None:
        return None
    if row.fingerprint != fingerprint(body):
        raise reused()
    retries.rejoin(row.id)
    return row


def reused() -> errors.IdempotencyKeyReused:
    """Return what is told to who sends another request with the same key of their own."""
    return errors.IdempotencyKeyReused(
        f"This {HEADER} was sent with another request within 24 hours. Send the same body, or "
        "another key."
    )


def _counted(body: bytes) -> Row[Any] | None:
    count = sdk.retry_count()
    if name() or count is None or not 1 <= count <= sdk.MOST_RETRIES:
        return None
    job_id = retries.by_count(guards.caller().key_id, fingerprint(body), count)
    return rows.find(job_id) if job_id else None


def name() -> str | None:
    """Return the digest of the caller's own key for the request, if it has one."""
    given = request.headers.get(HEADER, "").strip()
    if len(given) > MAX_NAME_CHARACTERS:
        raise errors.InvalidRequest(
            f"The {HEADER} is too long: at most {MAX_NAME_CHARACTERS} characters are taken."
        )
    return hashlib.sha256(given.encode()).hexdigest() if given else None


def fingerprint(body: bytes) -> str:
    """Return what tells a request from others: SHA-256 of its path and raw body, in hex."""
    return hashlib.sha256(request.path.encode() + b"\n" + body).hexdigest()
