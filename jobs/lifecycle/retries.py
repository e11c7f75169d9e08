"""Which job a request is a retry of: it joins that job, and is not charged again.

A caller's own idempotency key identifies a job for 24 hours. SDKs send no key but count their
retries: then the same bytes to the same path with the same API key identify the job, the oldest
that no retry with this count has joined.
"""

import time

from sqlalchemy import Connection, Select, and_, or_, select, update
from sqlmodel import col

import database
from billing.holds import IDEMPOTENCY_SECONDS
from config.settings import settings
from models.job import IS_UNFINISHED, Idempotency, Job, Status

#: An SDK may give up and retry this long after the job's own deadline.
GRACE_SECONDS = 120
#: For this long after its delivery, an answer may have been lost on the way to the client.
DELIVERED_SECONDS = 10


def by_key_digest(key_id: int, digest: str) -> Job | None:
    """Return the job that the `digest` of a caller's own key identifies; None if there is none."""
    query = (
        select(database.table(Job))
        .join(Idempotency, col(Idempotency.job_id) == col(Job.id))
        .where(
            col(Idempotency.key_id) == key_id,
            col(Idempotency.name) == digest,
            col(Idempotency.created) > time.time() - IDEMPOTENCY_SECONDS,
        )
    )
    return database.one(query, Job)


def by_sdk_retry(key_id: int, fingerprint: str, count: int) -> str | None:
    """Let retry number `count` join its job; return that job's id, None if there is none."""
    return database.run(lambda connection: _join(connection, key_id, fingerprint, count))


def _join(connection: Connection, key_id: int, fingerprint: str, count: int) -> str | None:
    while True:
        job_id: str | None = database.scalar(_joinable(key_id, fingerprint, count), connection)
        if job_id is None:
            return None
        join = (
            update(Job)
            .where(col(Job.id) == job_id, col(Job.joined) < count)
            .values(joined=count, left_at=None)
        )
        if database.execute(join, connection):
            return job_id


def _joinable(key_id: int, fingerprint: str, count: int) -> Select[str]:
    now = time.time()
    not_delivered = col(Job.handed_over_at).is_(None)
    just_delivered = col(Job.handed_over_at) > now - DELIVERED_SECONDS
    return (
        select(col(Job.id))
        .where(
            col(Job.key_id) == key_id,
            col(Job.fingerprint) == fingerprint,
            col(Job.created) > now - settings.job_timeout_seconds - GRACE_SECONDS,
            col(Job.joined) < count,
            # A job about to be cancelled has no answer to offer.
            col(Job.cancel_requested).is_(False),
            or_(
                IS_UNFINISHED,
                and_(
                    col(Job.status) == Status.COMPLETED.value,
                    or_(not_delivered, just_delivered),
                ),
                # A retry after a delivered failure is meant as a new job.
                and_(col(Job.status) == Status.FAILED.value, not_delivered),
            ),
        )
        .order_by(col(Job.created), col(Job.id))
        .limit(1)
    )


def mark_rejoined(job_id: str) -> None:
    """Record that a client waits for a job again."""
    database.execute(update(Job).where(col(Job.id) == job_id).values(left_at=None))
