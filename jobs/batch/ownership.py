"""Ownership: one worker advances a batch at a time; every write checks that it still may."""

from collections.abc import Callable, Collection
from typing import Any

from gevent.event import Event
from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
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
from jobs.worker import in_flight
from models.batch import Batch, BatchLine
from models.job import Result
from models.lease import LEASE_SECONDS, Lease

#: Lines, and results, that one transaction takes on: others wait for it.
CHUNK_ROWS = 500
BATCH_EXPIRED = {
    "code": "batch_expired",
    "message": "This request could not be run before the batch's completion window was over.",
}


class OwnershipLost(Exception):
    """The batch is another worker's by now, or its status is another."""


class OwnedBatch:
    """A batch that this worker advances."""

    def __init__(self, batch_id: str, is_stopping: Callable[[], bool]) -> None:
        self.id = batch_id
        #: Whether the worker is about to end.
        self.is_stopping = is_stopping
        #: Set when there may be something to do.
        self.woken = Event()

    @property
    def may_begin_more(self) -> bool:
        return in_flight.this_worker.may_claim and not self.is_stopping()

    def in_status(self, *statuses: str) -> ColumnElement[bool]:
        """Return the condition under which this worker may change the batch."""
        return and_(
            col(Batch.id) == self.id,
            col(Batch.worker) == in_flight.this_worker.lease,
            col(Batch.status).in_([*map(str, statuses)]),
        )


def take_on(worker: str, known: Collection[str], most: int) -> list[str]:
    """Make up to `most` batches that nobody advances this worker's, and return their ids.

    `known`: those that it advances.
    """
    return database.run(lambda connection: _take_on(connection, worker, known, most))


def _take_on(connection: Connection, worker: str, known: Collection[str], most: int) -> list[str]:
    live = select(col(Lease.name)).where(now() - col(Lease.last_seen) < LEASE_SECONDS)
    not_done = col(Batch.is_done) == false()
    ours = and_(col(Batch.worker) == worker, col(Batch.id).not_in(known))
    free = and_(not_done, or_(col(Batch.worker).is_(None), col(Batch.worker).not_in(live), ours))
    advanced = and_(not_done, col(Batch.worker).in_(live), ~ours)
    # Of two workers that choose the same, the later one finds it free no more.
    chosen = select(col(Batch.id)).where(
        col(Batch.id).in_(_next_of_each(free, advanced, most)), free
    )
    chosen = database.locked(chosen.order_by(col(Batch.created), col(Batch.id)), skip_locked=True)
    taken = list(connection.execute(chosen).scalars())
    if taken:
        connection.execute(update(Batch).where(col(Batch.id).in_(taken)).values(worker=worker))
    return taken


def _next_of_each(free: ColumnElement[bool], advanced: ColumnElement[bool], most: int) -> Any:
    """Return a query for the ids of up to `most` batches that are `free`, in turn of each account.

    Beside those that are `advanced`, an account has `MOST_AT_ONCE` at the most.
    """
    oldest_first = (col(Batch.created), col(Batch.id))
    number = func.row_number().over(partition_by=col(Batch.account_id), order_by=oldest_first)
    waiting = select(
        *(col(Batch.id), col(Batch.account_id), col(Batch.created)), number.label("number")
    )
    its = waiting.where(free).subquery()
    counted = select(col(Batch.account_id), func.count().label("taken")).where(advanced)
    have = counted.group_by(col(Batch.account_id)).subquery()
    turn = its.c.number + func.coalesce(have.c.taken, 0)
    query = select(its.c.id).outerjoin(have, have.c.account_id == its.c.account_id)
    return (
        query.where(turn <= batch_store.MAX_AT_ONCE)
        .order_by(turn, its.c.created, its.c.id)
        .limit(most)
    )


def lock_if(connection: Connection, condition: ColumnElement[bool]) -> Row[Any] | None:
    """Return the batch of that condition, which nobody changes until the transaction's end."""
    query = database.locked(select(database.table(Batch)).where(condition))
    return connection.execute(query).one_or_none()


def advance(condition: ColumnElement[bool], **values: Any) -> None:
    """Change the batch of that condition; raise `NotOurs` where it holds no more."""

    def work(connection: Connection) -> int:
        return int(connection.execute(update(Batch).where(condition).values(**values)).rowcount)

    if not database.run(work):
        raise OwnershipLost


def stop_dispatching(condition: ColumnElement[bool], why: dict[str, str]) -> None:
    """Let no more lines begin, because of `why`; raise `NotOurs`."""
    advance(condition, **batch_store.rest_is(why))


def insert_lines(condition: ColumnElement[bool], lines: list[dict[str, Any]]) -> None:
    """Insert some lines of a batch of that condition; raise `NotOurs`."""

    def work(connection: Connection) -> bool:
        if lock_if(connection, condition) is None:
            return False
        connection.execute(insert(BatchLine), lines)
        return True

    if not database.run(work, repeatable=False):
        raise OwnershipLost


def forget_some_lines(condition: ColumnElement[bool]) -> bool:
    """Delete some lines of a batch, and what their jobs answered; False where none is left."""

    def work(connection: Connection) -> bool:
        row = lock_if(connection, condition)
        if row is None:
            return False
        some = select(col(BatchLine.number), col(BatchLine.job_id))
        some = some.where(col(BatchLine.batch_id) == row.id).order_by(col(BatchLine.number))
        found = connection.execute(some.limit(CHUNK_ROWS)).all()
        if not found:
            return False
        jobs = [line.job_id for line in found if line.job_id is not None]
        connection.execute(delete(Result).where(col(Result.job_id).in_(jobs)))
        up_to = col(BatchLine.number) <= found[-1].number
        connection.execute(delete(BatchLine).where(col(BatchLine.batch_id) == row.id, up_to))
        return True

    return database.run(work)
