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

from config.catalog import catalog
from jobs import queues
from models import database
from models.account import Account
from models.job import IS_QUEUED, IS_UNFINISHED, Job

log = structlog.get_logger()

# The index is one of what is unfinished.
_WAITS = (IS_UNFINISHED, IS_QUEUED, col(Job.enqueued_at).is_(None))
#: A job that waits for a place is let in by others when it is older than this.
YOUNG_SECONDS = 1
#: Accounts that one pass of upkeep takes on.
BATCH = 500


def let_in(account_id: int, its_own: str | None = None) -> None:
    """Put waiting jobs of the account in the queue, the oldest first, as many as have a place.

    `its_own`: the job of who asks, whose body is where it waits.
    """
    for row in database.run(lambda connection: _give_places(connection, account_id, its_own)):
        try:
            queues.enqueue_again(row.id, row.kind, at_front=False)
        except redis.RedisError as error:
            # It has its place; upkeep finds that the queue does not know it.
            log.warning("places.queue_waits", job=row.id, reason=str(error))


def let_in_all() -> None:
    """Do so for every account that has jobs waiting: who was to do it may have died."""
    for account_id in database.run(_accounts_waiting):
        let_in(account_id)


def _accounts_waiting(connection: Connection) -> list[int]:
    waiting = select(col(Job.account_id)).where(*_WAITS)
    return list(connection.execute(waiting.distinct().limit(BATCH)).scalars())


def _give_places(connection: Connection, account_id: int, its_own: str | None) -> list[Row[Any]]:
    # Whoever counts has the account's row, so that two do not give the same place away.
    account = connection.execute(
        database.locked(select(col(Account.plan)).where(col(Account.id) == account_id))
    ).one()
    found: list[Row[Any]] = []
    for kind in connection.execute(_waiting(account_id, its_own).distinct()).scalars().all():
        free = _free_places(connection, account_id, account.plan, kind)
        oldest = (
            select(col(Job.id), col(Job.kind))
            .where(col(Job.id).in_(_of_kind(account_id, its_own, kind)))
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


def _waiting(account_id: int, its_own: str | None) -> Any:
    """Return a query of the kinds of jobs that wait for a place and can be run.

    A young one's body may still be on its way to where it waits.
    """
    return select(col(Job.kind)).where(*_waits(account_id, its_own))


def _of_kind(account_id: int, its_own: str | None, kind: str) -> Any:
    return select(col(Job.id)).where(*_waits(account_id, its_own), col(Job.kind) == kind)


def _waits(account_id: int, its_own: str | None) -> tuple[Any, ...]:
    # As an age: it is not to be looked for among all that the account ever asked for.
    is_old = time.time() - col(Job.created) > YOUNG_SECONDS
    return (
        col(Job.account_id) == account_id,
        *_WAITS,
        or_(is_old, col(Job.id) == its_own) if its_own else is_old,
    )


def _free_places(connection: Connection, account_id: int, plan_name: str, kind: str) -> int:
    plan = catalog.plans.get(plan_name)
    running = select(func.count()).where(
        col(Job.account_id) == account_id,
        col(Job.kind) == kind,
        IS_UNFINISHED,
        col(Job.enqueued_at).is_not(None),
        # Lines of batches take no places.
        col(Job.batch_id).is_(None),
    )
    return (plan.places(kind) if plan else 1) - int(connection.execute(running).scalar_one())
