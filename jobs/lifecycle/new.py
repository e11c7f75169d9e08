"""A new job: its row, the hold for it, its place in the queue, and undoing that if it fails."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from billing import holds, pricing, settlement
from billing.holds import ExistingJob, Hold
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
    """Return the columns of a new job for `request`; `columns` are added, or replace some.

    What the hold says is not among them: the status, the credits held, the output tokens.
    """
    now = time.time()
    return {
        "id": make_id(),
        "account_id": account_id,
        "key_id": key_id,
        "kind": kind.name,
        # By this no retry finds it.
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
) -> Hold | ExistingJob:
    """Hold for a job whose body is then where it waits, unless that is Redis.

    From the moment of the hold on others may put it in the queue. Raises what `holds.hold` does.
    """
    held: Hold | ExistingJob | None = None
    try:
        if row["body_at"] is BodyAt.STORAGE:
            bodies.save_file(row["id"], body)
        kept = body if row["body_at"] is BodyAt.SQL else None
        held = holds.hold(row, quote, max_running, key_digest, kept)
    finally:
        if not isinstance(held, Hold):
            bodies.forget_file(row["id"], row["body_at"])
    return held


def enqueue(row: dict[str, Any], body: bytes, held: Hold) -> None:
    """Put a held job in the queue, or let it wait for a concurrency slot; raise `Unavailable`."""
    in_redis = body if row["body_at"] is BodyAt.REDIS else None
    queue.enqueue(row["id"], row["kind"], in_redis, held.has_slot)
    if not held.has_slot:
        concurrency.promote_waiting(row["account_id"])


@contextmanager
def released_on_failure(row: dict[str, Any]) -> Iterator[None]:
    """End a held job free of charge where the block raises, unless a worker has it by then."""
    try:
        yield
    except Exception as error:
        known = error if isinstance(error, LikeDoError) else InternalError(OUR_SIDE)
        if settlement.end_unclaimed(row["id"], Status.FAILED, known):
            bodies.forget_body(row["id"], row["body_at"], Status.FAILED)
            # Its caller is told: a retry is to be a new try.
            store.mark_delivered([row["id"]])
        raise
