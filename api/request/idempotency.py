"""Finding the job that a request retries, by `Idempotency-Key` or an SDK's retry count."""

import hashlib

from flask import request

from api.request import admission, sdk
from jobs.lifecycle import retries, store
from models.errors import IdempotencyKeyReused, InvalidRequest
from models.job import Job
from ops import turns

HEADER = "Idempotency-Key"
MAX_KEY_CHARACTERS = 255
#: What is hashed before other greenlets have their turn.
HASHED_BYTES = 1024 * 1024


def by_key(body: bytes) -> Job | None:
    """Return the job that the request's `Idempotency-Key` names; None if there is none.

    Raises `IdempotencyKeyReused` if that was made with a different body.
    """
    digest = key_digest()
    row = retries.by_key_digest(admission.caller().key_id, digest) if digest else None
    if row is None:
        return None
    if row.fingerprint != fingerprint(body):
        raise key_reused()
    retries.mark_rejoined(row.id)
    return row


def key_reused() -> IdempotencyKeyReused:
    """Return the 422 for a key reused with a different body."""
    return IdempotencyKeyReused(
        f"This {HEADER} was sent with another request within 24 hours. Send the same body, or "
        "another key."
    )


def by_sdk_retry(body: bytes) -> Job | None:
    """Return the job that an SDK's retry, sent without a key, joins; None if it is new."""
    count = sdk.retry_count()
    if key_digest() or count is None or not 1 <= count <= sdk.MAX_RETRY_COUNT:
        return None
    job_id = retries.by_sdk_retry(admission.caller().key_id, fingerprint(body), count)
    return store.find(job_id) if job_id else None


def key_digest() -> str | None:
    """Return the digest of the request's `Idempotency-Key`; None if it has none."""
    key = request.headers.get(HEADER, "").strip()
    if len(key) > MAX_KEY_CHARACTERS:
        raise InvalidRequest(
            f"The {HEADER} is too long: at most {MAX_KEY_CHARACTERS} characters are taken."
        )
    return hashlib.sha256(key.encode()).hexdigest() if key else None


def fingerprint(body: bytes) -> str:
    """Return the SHA-256 of the request's path and raw body, in hex."""
    digest = hashlib.sha256(request.path.encode() + b"\n")
    for piece in turns.slices(body, HASHED_BYTES):
        digest.update(piece)
    return digest.hexdigest()
