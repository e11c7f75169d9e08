"""Which job a request is a retry of: by `Idempotency-Key`, or by an SDK's retry count."""

import hashlib

from flask import request

from api.request import admission, sdk
from jobs.lifecycle import retries, store
from models.errors import IdempotencyKeyReused, InvalidRequest
from models.job import Job

HEADER = "Idempotency-Key"
MAX_KEY_CHARACTERS = 255


def by_key(body: bytes) -> Job | None:
    digest = key_digest()
    row = retries.by_key_digest(admission.caller().key_id, digest) if digest else None
    if row is None:
        return None
    if row.fingerprint != fingerprint(body):
        raise key_reused()
    retries.mark_rejoined(row.id)
    return row


def key_reused() -> IdempotencyKeyReused:
    """Return what is told to who sends another request with the same key of their own."""
    return IdempotencyKeyReused(
        f"This {HEADER} was sent with another request within 24 hours. Send the same body, or "
        "another key."
    )


def by_sdk_retry(body: bytes) -> Job | None:
    count = sdk.retry_count()
    if key_digest() or count is None or not 1 <= count <= sdk.MAX_RETRIES:
        return None
    job_id = retries.by_sdk_retry(admission.caller().key_id, fingerprint(body), count)
    return store.find(job_id) if job_id else None


def key_digest() -> str | None:
    """Return the digest of the caller's own key for the request, if it has one."""
    given = request.headers.get(HEADER, "").strip()
    if len(given) > MAX_KEY_CHARACTERS:
        raise InvalidRequest(
            f"The {HEADER} is too long: at most {MAX_KEY_CHARACTERS} characters are taken."
        )
    return hashlib.sha256(given.encode()).hexdigest() if given else None


def fingerprint(body: bytes) -> str:
    """Return what tells a request from others: SHA-256 of its path and raw body, in hex."""
    return hashlib.sha256(request.path.encode() + b"\n" + body).hexdigest()
