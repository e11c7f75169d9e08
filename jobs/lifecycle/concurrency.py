"""Concurrency slots: how many jobs of one account may be queued in RQ or running at once.

RQ's queues are first in, first out. So they hold only jobs that may run; the others wait in SQL,
and no account waits behind the thousands of jobs of another.
"""

import time

import redis
import structlog
from sqlalchemy import ColumnElement, Connection, func, or_, select, update
from sqlmodel import col

import database
from config.catalog.load import catalog
from jobs.kinds import KINDS
from jobs.lifecycle import bodies, queue
from models.account import Account
from models.job import IS_QUEUED, IS_UNFINISHED, BodyAt, Job

log = structlog.get_logger()

# `IS_UNFINISHED` is implied, but names the partial index to use.
_IS_WAITING = (IS_UNFINISHED, IS_QUEUED, col(Job.enqueued_at).is_(None))
#: A body outside Redis is stored before its job's row is.
_HAS_STORED_BODY = col(Job.body_at) != BodyAt.REDIS.value
#: The body of a job younger than this may still be on its way to Redis.
BODY_GRACE_SECONDS = 1
#: Maximum of accounts per maintenance pass, and of young jobs checked for one account.
PAGE_SIZE = 500


class _PromotedJob:
    id: str
    kind: str


def promote_waiting(account_id: int) -> None:
    """Enqueue waiting jobs of the account, oldest first, as many as there are free slots."""
    young = database.run(lambda connection: _young(connection, account_id))
    with_bodies = _in_redis(young) if young else []
    for job in database.run(lambda connection: _take_slots(connection, account_id, with_bodies)):
        try:
            queue.enqueue_again(job.id, job.kind, at_front=False)
        except redis.RedisError as error:
            # It has its slot; maintenance finds that it is missing from the queue.
            log.warning("concurrency.enqueue_failed", job=job.id, reason=str(error))


def promote_all_waiting() -> None:
    """Promote waiting jobs of every account: the process that was to do so may have died."""
    for account_id in accounts_with_waiting_jobs():
        promote_waiting(account_id)


def accounts_with_waiting_jobs() -> list[int]:
    """Return up to `PAGE_SIZE` accounts with jobs that wait for a slot."""
    waiting = select(col(Job.account_id)).where(*_IS_WAITING).distinct().limit(PAGE_SIZE)
    return database.run(lambda connection: list(connection.execute(waiting).scalars()))


def _young(connection: Connection, account_id: int) -> list[str]:
    """Return the waiting jobs whose bodies may still be on their way to Redis."""
    query = select(col(Job.id)).where(
        col(Job.account_id) == account_id, *_IS_WAITING, ~_HAS_STORED_BODY, ~_is_old()
    )
    return list(connection.execute(query.limit(PAGE_SIZE)).scalars())


def _in_redis(job_ids: list[str]) -> list[str]:
    try:
        return bodies.in_redis(job_ids)
    except redis.RedisError as error:
        log.warning("concurrency.redis_lost", reason=str(error))
        return []


def _take_slots(
    connection: Connection, account_id: int, with_bodies: list[str]
) -> list[_PromotedJob]:
    """Mark as many waiting jobs as enqueued as there are free slots, and return them.

    `with_bodies`: the young jobs whose bodies are in Redis.
    """
    # The lock on the account keeps two transactions from taking the same slot.
    account = select(col(Account.plan)).where(col(Account.id) == account_id)
    plan_name = database.scalar(database.locked(account), connection)
    can_run = or_(_HAS_STORED_BODY, _is_old(), col(Job.id).in_(with_bodies))
    is_ready = (col(Job.account_id) == account_id, *_IS_WAITING, can_run)
    promoted: list[_PromotedJob] = []
    kinds = select(col(Job.kind)).where(*is_ready).distinct()
    for kind in connection.execute(kinds).scalars().all():
        free = _free_slots(connection, account_id, plan_name, kind)
        oldest = (
            select(col(Job.id), col(Job.kind))
            .where(col(Job.id).in_(select(col(Job.id)).where(*is_ready, col(Job.kind) == kind)))
            .order_by(col(Job.created))
            .limit(max(0, free))
        )
        promoted += database.all(oldest, _PromotedJob, connection)
    connection.execute(
        update(Job)
        .where(col(Job.id).in_([job.id for job in promoted]), col(Job.enqueued_at).is_(None))
        .values(enqueued_at=time.time())
    )
    return promoted


def _is_old() -> ColumnElement[bool]:
    # Written as an age, or the database would search all jobs that the account ever had.
    return time.time() - col(Job.created) > BODY_GRACE_SECONDS


def _free_slots(connection: Connection, account_id: int, plan_name: str, kind: str) -> int:
    plan = catalog.plans.get(plan_name)
    running = select(func.count()).where(
        col(Job.account_id) == account_id,
        col(Job.kind) == kind,
        IS_UNFINISHED,
        col(Job.enqueued_at).is_not(None),
        # Batch lines take no slots.
        col(Job.batch_id).is_(None),
    )
    max_running = KINDS[kind].max_running(plan) if plan else 1
    return max_running - int(database.scalar(running, connection))
