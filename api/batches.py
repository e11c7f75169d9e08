"""Batches: many requests in a file, answered within a day."""

import time
from typing import Any

import orjson
from flask import Blueprint, Response, request

from api.request import admission, body, idempotency, pagination, sdk
from api.response import images
from jobs.batch import store as batch_store
from jobs.batch.store import BatchSubmission
from jobs.kinds import BY_BATCH_ENDPOINT
from models.batch import (
    COMPLETION_WINDOW_SECONDS,
    FINAL,
    Batch,
    BatchRequest,
    BatchStatus,
    make_id,
)
from models.errors import InvalidRequest, JobAlreadyFinished, NotFound
from storage import files

bp = Blueprint("batches", __name__)

#: Batches in a page.
DEFAULT_LIMIT, MAX_LIMIT = 20, 100
#: Columns that are shown unchanged, and those that are times.
SHOWN = ("id", "endpoint", "input_file_id", "status", "output_file_id", "error_file_id")
TIMES = (
    *("in_progress_at", "expires_at", "finalizing_at", "completed_at"),
    *("failed_at", "expired_at", "cancelling_at", "cancelled_at"),
)


@bp.post("/batches")
def create_batch() -> Response:
    """Create a batch; workers validate it, run it and write its output."""
    content = admission.read_body()
    submission = _submission()
    if (existing := batch_store.find_retried(submission)) is not None:
        return _replayed(existing, submission)
    admission.hit()
    batch = _batch(submission, BatchRequest.read(admission.parse(content), BY_BATCH_ENDPOINT))
    row = batch_store.create(batch, admission.plan().max_stored_bytes)
    return _answer(row) if row.id == batch.id else _replayed(row, submission)


def _submission() -> BatchSubmission:
    caller, count = admission.caller(), sdk.retry_count()
    retry = count if count is not None and 1 <= count <= sdk.MAX_RETRY_COUNT else None
    return BatchSubmission(
        caller.account_id,
        caller.key_id,
        body.fingerprint(),
        idempotency.key_digest(),
        retry,
    )


def _replayed(row: Batch, submission: BatchSubmission) -> Response:
    """Return the batch that an earlier request made; raise if that was a different request."""
    admission.peek()
    if row.fingerprint != submission.fingerprint:
        raise idempotency.key_reused()
    response = _answer(row)
    response.headers["Idempotent-Replayed"] = "true"
    return response


def _batch(submission: BatchSubmission, batch: BatchRequest) -> Batch:
    now, after = time.time(), batch.output_expires_after
    return Batch(
        id=make_id(),
        account_id=submission.account_id,
        key_id=submission.key_id,
        endpoint=batch.endpoint,
        kind=BY_BATCH_ENDPOINT[batch.endpoint].name,
        input_file_id=batch.input_file_id,
        output_seconds=after.seconds if after else files.KEPT_SECONDS,
        caller_metadata=None if batch.metadata is None else orjson.dumps(batch.metadata).decode(),
        address=images.base_url(),
        fingerprint=submission.fingerprint,
        name=submission.idempotency_digest,
        created=now,
        expires_at=now + COMPLETION_WINDOW_SECONDS,
    )


@bp.get("/batches")
def list_batches() -> Response:
    """List the caller's batches, the newest first."""
    account_id = admission.caller().account_id
    limit = pagination.limit(DEFAULT_LIMIT, MAX_LIMIT)
    after = _after(request.args.get("after"), account_id)
    return pagination.page(batch_store.listing(limit + 1, account_id, after), limit, as_json)


def _after(batch_id: str | None, account_id: int) -> Batch | None:
    if batch_id is None:
        return None
    row = batch_store.find(batch_id, account_id)
    if row is None:
        raise InvalidRequest(
            f"Invalid value for 'after': there is no batch '{batch_id}'.", param="after"
        )
    return row


@bp.get("/batches/<batch_id>")
def get_batch(batch_id: str) -> Response:
    """Return one batch."""
    return _answer(_own(batch_id))


@bp.post("/batches/<batch_id>/cancel")
def cancel_batch(batch_id: str) -> Response:
    """Start no more lines of a batch, cancel those in progress, and return it.

    A batch that was cancelled before is returned as well.
    """
    admission.peek()
    row = batch_store.cancel(_own(batch_id).id)
    if row.status in {*FINAL, BatchStatus.FINALIZING} - {BatchStatus.CANCELLED}:
        raise JobAlreadyFinished(f"The batch has ended before: it is {row.status}.")
    return _answer(row)


def _own(batch_id: str) -> Batch:
    """Return a batch of the caller's account; raise `NotFound` for any other."""
    row = batch_store.find(batch_id, admission.caller().account_id)
    if row is None:
        raise NotFound(f"There is no batch '{batch_id}'.")
    return row


def as_json(row: Batch) -> dict[str, Any]:
    """Return a batch as callers see it; times are Unix seconds."""
    errors = {"object": "list", "data": orjson.loads(row.errors)} if row.errors else None
    return {
        "object": "batch",
        **{name: getattr(row, name) for name in SHOWN},
        "errors": errors,
        "completion_window": "24h",
        "created_at": int(row.created),
        **{name: _seconds(getattr(row, name)) for name in TIMES},
        "request_counts": {
            "total": row.total,
            "completed": row.completed,
            "failed": row.failed,
        },
        "metadata": orjson.loads(row.caller_metadata) if row.caller_metadata else None,
    }


def _seconds(at: float | None) -> int | None:
    return None if at is None else int(at)


def _answer(row: Batch) -> Response:
    return Response(orjson.dumps(as_json(row)), content_type="application/json")
