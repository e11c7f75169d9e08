"""A new job: its row, its hold, its enqueuing, and its end if one of these fails."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from billing import holds, pricing, settlement
from billing.holds import Check, ExistingJob, Hold
from billing.pricing import Quote
from jobs.kinds.kind import Kind
from jobs.lifecycle import bodies, concurrency, queue, store
from models.errors import InternalError, LikeDoError
from models.job import BodyAt, Status, make_id

OUR_SIDE = "Something went wrong on our side."
UNLIMITED = 10**9


def row(
    kind: Kind[Any],
    request: Any,
    quote: Quote,
    *,
    account_id: int,
    key_id: int,
    body_bytes: int,
    body_at: BodyAt,
    asynchronous: bool,
    **columns: Any,
) -> dict[str, Any]:
    """Return the columns of a new job for `request`; `columns` adds to them or replaces some.

    Holding credits sets the others: the status, the credits held, the maximum of output tokens.
    """
    now = time.time()
    return {
        "id": make_id(),
        "account_id": account_id,
        "key_id": key_id,
        "kind": kind.name,
        # Matches no retry.
        "fingerprint": "",
        "body_bytes": body_bytes,
        "body_at": body_at,
        "attempts": 0,
        "cancel_requested": False,
        "asynchronous": asynchronous,
        "is_idempotent": False,
        "stream": False,
        "include_usage": False,
        "cancel_on_disconnect": False,
        "webhook_url": None,
        "total": 1,
        "created": now,
        "enqueued_at": now,
        "price": pricing.as_text(quote.price),
        **kind.columns(request),
        **columns,
    }


def hold(
    row: dict[str, Any],
    body: bytes,
    quote: Quote,
    max_running: int = UNLIMITED,
    key_digest: str | None = None,
    check: Check | None = None,
) -> Hold | ExistingJob:
    """Hold credits for a job, and store its body unless that belongs in Redis.

    Once credits are held, any process may enqueue the job. Raises what `holds.hold` does.
    """
    held: Hold | ExistingJob | None = None
    try:
        if row["body_at"] is BodyAt.STORAGE:
            bodies.save_to_storage(row["id"], body)
        sql_body = body if row["body_at"] is BodyAt.SQL else None
        held = holds.hold(row, quote, max_running, key_digest, sql_body, check)
    finally:
        if not isinstance(held, Hold):
            bodies.forget_unheld(row["id"], row["body_at"])
    return held


def enqueue(row: dict[str, Any], body: bytes, held: Hold) -> None:
    """Enqueue a held job, or leave it waiting for a concurrency slot. Raises `Unavailable`."""
    redis_body = body if row["body_at"] is BodyAt.REDIS else None
    queue.enqueue(row["id"], row["kind"], redis_body, held.has_slot)
    if not held.has_slot:
        concurrency.promote_waiting(row["account_id"])


@contextmanager
def released_on_failure(row: dict[str, Any]) -> Iterator[None]:
    """End a held job free of charge if the block raises, unless a worker has claimed it."""
    try:
        yield
    except Exception as error:
        reason = error if isinstance(error, LikeDoError) else InternalError(OUR_SIDE)
        if settlement.end_unclaimed(row["id"], Status.FAILED, reason):
            bodies.forget(row["id"], row["body_at"], Status.FAILED)
            # Its caller gets the error now: a retry is to be a new job.
            store.mark_delivered([row["id"]])
        raise
