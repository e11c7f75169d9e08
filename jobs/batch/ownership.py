"""Ownership: one worker advances a batch at a time; every write checks that it still may."""

from collections.abc import Callable, Collection
from typing import Any

from gevent.event import Event
from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    delete,
    false,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlmodel import col

import database
from database.clock import now
from jobs.batch import store as batch_store
from jobs.worker.in_flight import this_worker
from models.batch import Batch, BatchLine
from models.job import Result
from models.lease import LEASE_SECONDS, Lease

#: Lines, and results, that one transaction writes: others wait for it.
CHUNK_ROWS = 500
BATCH_EXPIRED = {
    "code": "batch_expired",
    "message": "This request could not be run before the batch's completion window was over.",
}


class OwnershipLost(Exception):
    """The batch is another worker's by now, or its status has changed."""


class OwnedBatch:
    """A batch that this worker advances."""

    def __init__(self, batch_id: str, is_stopping: Callable[[], bool]) -> None:
        self.id = batch_id
        #: Whether the worker is about to end.
        self.is_stopping = is_stopping
        #: Set when there may be something to do.
        self.has_work = Event()

    @property
    def may_dispatch(self) -> bool:
        return this_worker.may_claim and not self.is_stopping()

    def in_status(self, *statuses: str) -> ColumnElement[bool]:
        """Return the condition under which this worker may change the batch."""
        return and_(
            col(Batch.id) == self.id,
            col(Batch.worker) == this_worker.lease,
            col(Batch.status).in_([*map(str, statuses)]),
        )


def acquire(worker: str, owned: Collection[str], max_count: int) -> list[str]:
    """Make `worker` the owner of up to `max_count` free batches, and return their ids.

    `owned`: the ids of those that it advances already. A batch of its own that is not among them
    counts as free.
    """
    return database.run(lambda connection: _acquire(connection, worker, owned, max_count))


def _acquire(
    connection: Connection, worker: str, owned: Collection[str], max_count: int
) -> list[str]:
    live = select(col(Lease.name)).where(now() - col(Lease.last_seen) < LEASE_SECONDS)
    not_done = col(Batch.is_done) == false()
    unattended = and_(col(Batch.worker) == worker, col(Batch.id).not_in(owned))
    free = and_(
        not_done, or_(col(Batch.worker).is_(None), col(Batch.worker).not_in(live), unattended)
    )
    advanced = and_(not_done, col(Batch.worker).in_(live), ~unattended)
    # If two workers choose the same batch, the later one finds that it is not free any more.
    query = select(col(Batch.id)).where(
        col(Batch.id).in_(_next_of_each_account(free, advanced, max_count)), free
    )
    query = database.locked(query.order_by(col(Batch.created), col(Batch.id)), skip_locked=True)
    batch_ids = list(connection.scalars(query))
    if batch_ids:
        acquired = update(Batch).where(col(Batch.id).in_(batch_ids)).values(worker=worker)
        database.execute(acquired, connection)
    return batch_ids


def _next_of_each_account(
    free: ColumnElement[bool], advanced: ColumnElement[bool], max_count: int
) -> Select[str]:
    """Return a query for the ids of up to `max_count` `free` batches, each account in its turn.

    An account has at most `MAX_ACTIVE_PER_ACCOUNT`, including those that are `advanced`.
    """
    oldest_first = (col(Batch.created), col(Batch.id))
    number = func.row_number().over(partition_by=col(Batch.account_id), order_by=oldest_first)
    columns = (col(Batch.id), col(Batch.account_id), col(Batch.created))
    waiting = select(*columns, number.label("number")).where(free).subquery()
    counted = select(col(Batch.account_id), func.count().label("batches")).where(advanced)
    active = counted.group_by(col(Batch.account_id)).subquery()
    turn = waiting.c.number + func.coalesce(active.c.batches, 0)
    return (
        select(waiting.c.id)
        .outerjoin(active, active.c.account_id == waiting.c.account_id)
        .where(turn <= batch_store.MAX_ACTIVE_PER_ACCOUNT)
        .order_by(turn, waiting.c.created, waiting.c.id)
        .limit(max_count)
    )


def lock_if(connection: Connection, condition: ColumnElement[bool]) -> Batch | None:
    """Lock and return the batch matching `condition`, or None."""
    query = database.locked(select(database.table(Batch)).where(condition))
    return database.one(query, Batch, connection)


def advance(condition: ColumnElement[bool], **values: Any) -> None:
    """Change the batch matching `condition`; raise `OwnershipLost` if none does."""
    if not database.execute(update(Batch).where(condition).values(**values)):
        raise OwnershipLost


def stop_dispatching(condition: ColumnElement[bool], reason: dict[str, str]) -> None:
    """Let no more lines begin, for this `reason`; raise `OwnershipLost`."""
    advance(condition, **batch_store.columns_to_stop(reason))


def insert_lines(condition: ColumnElement[bool], lines: list[dict[str, Any]]) -> None:
    """Insert some lines of the batch matching `condition`; raise `OwnershipLost`."""

    def insert_if_owned(connection: Connection) -> bool:
        if lock_if(connection, condition) is None:
            return False
        connection.execute(insert(BatchLine), lines)
        return True

    if not database.run(insert_if_owned, repeatable=False):
        raise OwnershipLost


class _LineJob:
    number: int
    job_id: str | None


def delete_some_lines(condition: ColumnElement[bool]) -> bool:
    """Delete some lines of a batch and the results of their jobs; False if none is left."""

    def delete_if_owned(connection: Connection) -> bool:
        batch = lock_if(connection, condition)
        if batch is None:
            return False
        of_batch = col(BatchLine.batch_id) == batch.id
        query = select(col(BatchLine.number), col(BatchLine.job_id)).where(of_batch)
        query = query.order_by(col(BatchLine.number)).limit(CHUNK_ROWS)
        lines = database.all(query, _LineJob, connection)
        if not lines:
            return False
        job_ids = [line.job_id for line in lines if line.job_id is not None]
        database.execute(delete(Result).where(col(Result.job_id).in_(job_ids)), connection)
        up_to_last = col(BatchLine.number) <= lines[-1].number
        database.execute(delete(BatchLine).where(of_batch, up_to_last), connection)
        return True

    return database.run(delete_if_owned)
