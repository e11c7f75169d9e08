"""A new job: hold for its row, put it in the queue, undo the hold if that fails."""

from typing import Any

from api.request import admission, idempotency
from billing import holds, settlement
from billing.holds import ExistingJob, Hold
from billing.pricing import Quote
from jobs.lifecycle import bodies, concurrency, queue, store
from jobs.streaming.pubsub import Subscription
from models.errors import InternalError, LikeDoError
from models.job import BodyAt, Status

OUR_SIDE = "Something went wrong on our side."


def hold(row: dict[str, Any], body: bytes, terms: Quote) -> Hold | ExistingJob:
    """Hold for a job whose body is where it waits by then, unless that is Redis.

    From the moment of the hold on others may put it in the queue.
    """
    held: Hold | ExistingJob | None = None
    try:
        if row["body_at"] is BodyAt.STORAGE:
            bodies.save_file(row["id"], body)
        kept = body if row["body_at"] is BodyAt.SQL else None
        held = holds.hold(
            row, terms, admission.plan().slots(row["kind"]), idempotency.key_digest(), kept
        )
    finally:
        if not isinstance(held, Hold):
            bodies.forget_file(row["id"], row["body_at"])
    return held


def enqueue(row: dict[str, Any], waiter: Subscription | None, body: bytes, held: Hold) -> None:
    try:
        if waiter:
            waiter.ready()
        in_redis = body if row["body_at"] is BodyAt.REDIS else None
        queue.enqueue(row["id"], row["kind"], in_redis, held.has_place)
        if not held.has_place:
            concurrency.promote_waiting(row["account_id"])
    except Exception as error:
        known = error if isinstance(error, LikeDoError) else InternalError(OUR_SIDE)
        if settlement.end_unclaimed(row["id"], Status.FAILED, known):
            bodies.forget_body(row["id"], row["body_at"], Status.FAILED)
            # Its caller is told, and who tries again wants another try.
            store.mark_delivered([row["id"]])
        raise
