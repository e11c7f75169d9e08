"""Places to run: so many jobs of one account may be in the queue or run, the rest waits in SQL.

Queues are first in, first out. So only what may run is in them, and nobody waits behind another's
thousands.
"""

import time
from typing import Any

import redis
import structlog
from sqlalchemy import Connection, Row, func, or_, select, update
from sqlmodel import col

import database
from config.catalog.load import catalog
from jobs.lifecycle import bodies, queue
from models.account import Account
from models.job import IS_QUEUED, IS_UNFINISHED, BodyAt, Job

log = structlog.get_logger()

# The index is one of what is unfinished.
_WAITS = (IS_UNFINISHED, IS_QUEUED, col(Job.enqueued_at).is_(None))
#: Elsewhere than in Redis, a job's body is there before the job is.
_HAS_BODY = col(Job.body_at) != BodyAt.REDIS.value
#: A job that is younger than this may wait for a place before its body is in Redis.
YOUNG_SECONDS = 1
#: Accounts that one pass of upkeep takes on, and young jobs that are looked at for one of them.
PAGE_SIZE = 500


def promote_waiting(account_id: int) -> None:
    """Put waiting jobs of the account in the queue, the oldest first, as many as have a place."""
    young = database.run(lambda connection: _young(connection, account_id))
    whole = _have_bodies(young) if young else []
    for row in database.run(lambda connection: _take_slots(connection, account_id, whole)):
        try:
            queue.enqueue_again(row.id, row.kind, at_front=False)
        except redis.RedisError as error:
            # It has its place; upkeep finds that the queue does not know it.
            log.warning("places.queue_waits", job=row.id, reason=str(error))


def promote_all_waiting() -> None:
    """Do so for every account that has jobs waiting: who was to do it may have died."""
    for account_id in database.run(_accounts_waiting):
        promote_waiting(account_id)


def _accounts_waiting(connection: Connection) -> list[int]:
    waiting = select(col(Job.account_id)).where(*_WAITS)
    return list(connection.execute(waiting.distinct().limit(PAGE_SIZE)).scalars())


def _young(connection: Connection, account_id: int) -> list[str]:
    """Return the waiting jobs whose bodies may still be on their way to Redis."""
    found = select(col(Job.id)).where(
        col(Job.account_id) == account_id, *_WAITS, ~_HAS_BODY, ~_is_old()
    )
    return list(connection.execute(found.limit(PAGE_SIZE)).scalars())


def _have_bodies(job_ids: list[str]) -> list[str]:
    try:
        return bodies.in_redis(job_ids)
    except redis.RedisError as error:
        log.warning("places.redis_lost", reason=str(error))
        return []


def _take_slots(connection: Connection, account_id: int, whole: list[str]) -> list[Row[Any]]:
    # Whoever counts has the account's row, so that two do not give the same place away.
    account = connection.execute(
        database.locked(select(col(Account.plan)).where(col(Account.id) == account_id))
    ).one()
    found: list[Row[Any]] = []
    for kind in connection.execute(_waiting(account_id, whole).distinct()).scalars().all():
        free = _free_slots(connection, account_id, account.plan, kind)
        oldest = (
            select(col(Job.id), col(Job.kind))
            .where(col(Job.id).in_(_of_kind(account_id, whole, kind)))
            .order_by(col(Job.created))
            .limit(max(0, free))
        )
        found += list(connection.execute(oldest))
    connection.execute(
        update(Job)
        .where(col(Job.id).in_([row.id for row in found]), col(Job.enqueued_at).is_(None))
        .values(enqueued_at=time.time())
    )
    return found


def _waiting(account_id: int, whole: list[str]) -> Any:
    """Return a query of the kinds of jobs that wait for a place and can be run.

    `whole`: the young ones whose bodies are in Redis.
    """
    return select(col(Job.kind)).where(*_waits(account_id, whole))


def _of_kind(account_id: int, whole: list[str], kind: str) -> Any:
    return select(col(Job.id)).where(*_waits(account_id, whole), col(Job.kind) == kind)


def _waits(account_id: int, whole: list[str]) -> tuple[Any, ...]:
    can_run = or_(_HAS_BODY, _is_old(), col(Job.id).in_(whole))
    return (col(Job.account_id) == account_id, *_WAITS, can_run)


def _is_old() -> Any:
    # As an age: it is not to be looked for among all that the account ever asked for.
    return time.time() - col(Job.created) > YOUNG_SECONDS


def _free_slots(connection: Connection, account_id: int, plan_name: str, kind: str) -> int:
    plan = catalog.plans.get(plan_name)
    running = select(func.count()).where(
        col(Job.account_id) == account_id,
        col(Job.kind) == kind,
        IS_UNFINISHED,
        col(Job.enqueued_at).is_not(None),
        # Lines of batches take no places.
        col(Job.batch_id).is_(None),
    )
    return (plan.slots(kind) if plan else 1) - int(connection.execute(running).scalar_one())
