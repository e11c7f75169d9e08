"""Which job a request is a retry of: it joins that one, and is not charged again.

A caller's own key names a job for 24 hours. An SDK that sends none counts its retries; then the
same bytes to the same path from the same API key tell the job, the oldest that no retry of this
number has joined.
"""

import time
from typing import Any

from sqlalchemy import Connection, and_, or_, select, update
from sqlmodel import col

import database
from billing.holds import IDEMPOTENCY_SECONDS
from config.settings import settings
from models.job import IS_UNFINISHED, Idempotency, Job, Status

#: An SDK gives up and tries again a while after the job's own time is over.
GRACE_SECONDS = 120
#: An answer that went to a connection may have been lost on its last way for so long.
DELIVERED_SECONDS = 10


def by_key_digest(key_id: int, name: str) -> Job | None:
    """Return the job that the digest `name` of a caller's own key names; None where none is."""
    query = (
        select(database.table(Job))
        .join(Idempotency, col(Idempotency.job_id) == col(Job.id))
        .where(
            col(Idempotency.key_id) == key_id,
            col(Idempotency.name) == name,
            col(Idempotency.created) > time.time() - IDEMPOTENCY_SECONDS,
        )
    )
    return database.one(query, Job)


def by_sdk_retry(key_id: int, fingerprint: str, count: int) -> str | None:
    """Return the job that retry number `count` of the same bytes joins; None where it is new."""
    return database.run(lambda connection: _join(connection, key_id, fingerprint, count))


def _join(connection: Connection, key_id: int, fingerprint: str, count: int) -> str | None:
    while True:
        found = connection.execute(_fitting(key_id, fingerprint, count)).scalar_one_or_none()
        if found is None:
            return None
        joined = connection.execute(
            update(Job)
            .where(col(Job.id) == found, col(Job.joined) < count)
            .values(joined=count, left_at=None)
        )
        if joined.rowcount:
            return str(found)


def _fitting(key_id: int, fingerprint: str, count: int) -> Any:
    now = time.time()
    not_handed_over = col(Job.handed_over_at).is_(None)
    just_handed_over = col(Job.handed_over_at) > now - DELIVERED_SECONDS
    return (
        select(col(Job.id))
        .where(
            col(Job.key_id) == key_id,
            col(Job.fingerprint) == fingerprint,
            col(Job.created) > now - settings.job_timeout_seconds - GRACE_SECONDS,
            col(Job.joined) < count,
            # Nobody gets an answer from what is about to be cancelled.
            col(Job.cancel_requested).is_(False),
            or_(
                IS_UNFINISHED,
                and_(
                    col(Job.status) == Status.COMPLETED.value,
                    or_(not_handed_over, just_handed_over),
                ),
                # Who was told of a failure and tries again wants another try.
                and_(col(Job.status) == Status.FAILED.value, not_handed_over),
            ),
        )
        .order_by(col(Job.created), col(Job.id))
        .limit(1)
    )


def mark_rejoined(job_id: str) -> None:
    """Note that somebody waits for a job again."""
    query = update(Job).where(col(Job.id) == job_id).values(left_at=None)
    database.run(lambda connection: connection.execute(query) and None)
