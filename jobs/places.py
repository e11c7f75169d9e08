"""Places to run: so many jobs of one account may be in the queue or run, the rest waits in SQL.

Queues are first in, first out. So only what may run is in them, and nobody waits behind another's
thousands.
"""

import time
from typing import Any

import redis
import structlog
from sqlalchemy import Connection, Row, func, select, update
from sqlmodel import col

from config.catalog import catalog
from jobs import queues
from models import database
from models.account import Account
from models.job import Job, Status

log = structlog.get_logger()

UNFINISHED = (Status.QUEUED.value, Status.IN_PROGRESS.value)
#: Accounts that one pass of upkeep takes on.
BATCH = 500


def let_in(account_id: int) -> None:
    """Put waiting jobs of the account in the queue, the oldest first, as many as have a place."""
    for row in database.run(lambda connection: _give_places(connection, account_id)):
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
    waiting = select(col(Job.account_id)).where(
        col(Job.status) == Status.QUEUED.value, col(Job.enqueued_at).is_(None)
    )
    return list(connection.execute(waiting.distinct().limit(BATCH)).scalars())


def _give_places(connection: Connection, account_id: int) -> list[Row[Any]]:
    free = _free_places(connection, account_id)
    if free <= 0:
        return []
    waiting = select(col(Job.id), col(Job.kind)).where(
        col(Job.account_id) == account_id,
        col(Job.status) == Status.QUEUED.value,
        col(Job.enqueued_at).is_(None),
    )
    rows: list[Row[Any]] = list(connection.execute(waiting.order_by(col(Job.created)).limit(free)))
    connection.execute(
        update(Job)
        .where(col(Job.id).in_([row.id for row in rows]), col(Job.enqueued_at).is_(None))
        .values(enqueued_at=time.time())
    )
    return rows


def _free_places(connection: Connection, account_id: int) -> int:
    # Whoever counts has the account's row, so that two do not give the same place away.
    account = connection.execute(
        select(col(Account.plan)).where(col(Account.id) == account_id).with_for_update()
    ).one()
    plan = catalog.plans.get(account.plan)
    running = select(func.count()).where(
        col(Job.account_id) == account_id,
        col(Job.status).in_(UNFINISHED),
        col(Job.enqueued_at).is_not(None),
        # Lines of batches take no places.
        col(Job.batch_id).is_(None),
    )
    return (plan.max_running if plan else 1) - int(connection.execute(running).scalar_one())
