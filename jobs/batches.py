"""A batch's row: made, found, cancelled, and brought from one status to the next.

Whoever advances a batch does so under its worker's lease, and every change of theirs is guarded by
it: what a worker does that was taken for dead changes nothing.
"""

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import orjson
from gevent.event import Event
from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    and_,
    case,
    delete,
    false,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlmodel import col

from billing.ledger import NAME_SECONDS
from config.settings import settings
from jobs import files, retries, running
from models import database, errors
from models.account import Account
from models.batch import Batch, BatchLine, BatchStatus
from models.database import now
from models.file import Purpose
from models.job import Result
from models.worker import LEASE_SECONDS, Lease

#: Batches of one account that are advanced at a time; the others wait.
MOST_AT_ONCE = 20
#: Lines, and results, that one transaction takes on: others wait for it.
SLICE = 500

BATCH_CANCELLED = {"code": "batch_cancelled", "message": "The batch was cancelled."}
BATCH_EXPIRED = {
    "code": "batch_expired",
    "message": "This request could not be run before the batch's completion window was over.",
}
BEFORE_THE_END = (BatchStatus.VALIDATING.value, BatchStatus.IN_PROGRESS.value)


class NotOurs(Exception):
    """The batch is another worker's by now, or its status is another."""


class Held:
    """A batch that this worker advances."""

    def __init__(self, batch_id: str, is_stopping: Callable[[], bool]) -> None:
        self.id = batch_id
        #: Whether the worker is about to end.
        self.is_stopping = is_stopping
        #: Set when there may be something to do.
        self.woken = Event()

    @property
    def may_begin_more(self) -> bool:
        return running.work.may_claim and not self.is_stopping()

    def in_status(self, *statuses: str) -> ColumnElement[bool]:
        """Return the condition under which this worker may change the batch."""
        return and_(
            col(Batch.id) == self.id,
            col(Batch.worker) == running.work.lease,
            col(Batch.status).in_([*map(str, statuses)]),
        )


@dataclass(frozen=True)
class Asked:
    """Who asks for a batch, and by what a retry of that is told."""

    account_id: int
    key_id: int
    fingerprint: str
    #: The digest of the caller's own key, and the number of the retry, if any.
    name: str | None
    retry: int | None


# ---- Made and found ------------------------------------------------------------------------------


def earlier(asked: Asked) -> Row[Any] | None:
    """Return the batch that a request is a retry of; None where it is a new one."""
    return database.run(lambda connection: _earlier(connection, asked), repeatable=False)


def _earlier(connection: Connection, asked: Asked) -> Row[Any] | None:
    if asked.name:
        return _named(connection, asked)
    return _counted(connection, asked) if asked.retry else None


def _named(connection: Connection, asked: Asked) -> Row[Any] | None:
    query = select(database.table(Batch)).where(
        col(Batch.key_id) == asked.key_id,
        col(Batch.name) == asked.name,
        col(Batch.created) > time.time() - NAME_SECONDS,
    )
    return connection.execute(query.order_by(col(Batch.created).desc()).limit(1)).one_or_none()


def _counted(connection: Connection, asked: Asked) -> Row[Any] | None:
    """Return the oldest batch of the same request that no retry of this number has joined."""
    since = time.time() - settings.job_timeout_seconds - retries.GRACE_SECONDS
    query = select(database.table(Batch)).where(
        col(Batch.key_id) == asked.key_id,
        col(Batch.fingerprint) == asked.fingerprint,
        col(Batch.created) > since,
        col(Batch.joined) < asked.retry,
    )
    row: Row[Any] | None
    query = database.locked(query.order_by(col(Batch.created)).limit(1))
    if (row := connection.execute(query).one_or_none()) is not None:
        _change(connection, row.id, joined=asked.retry)
    return row


def _change(connection: Connection, batch_id: str, **values: Any) -> None:
    connection.execute(update(Batch).where(col(Batch.id) == batch_id).values(**values))


def create(batch: Batch) -> Row[Any]:
    """Insert a batch and return its row; that of the same name, where one was just made.

    Raises `NotFound` or `InvalidRequest` on its input file.
    """
    values = batch.model_dump()
    outcome = database.run(lambda connection: _create(connection, values), repeatable=False)
    if isinstance(outcome, errors.LikeDoError):
        raise outcome
    return outcome


def _create(connection: Connection, values: dict[str, Any]) -> Row[Any] | errors.LikeDoError:
    # A refusal is returned, not raised: on SQLite other transactions share this one's commit.
    account = select(col(Account.id)).where(col(Account.id) == values["account_id"])
    connection.execute(database.locked(account))
    asked = Asked(
        values["account_id"], values["key_id"], values["fingerprint"], values["name"], None
    )
    if (there := _earlier(connection, asked)) is not None:
        return there
    file = files.lock(connection, values["input_file_id"], values["account_id"])
    if file is None:
        return errors.NotFound(
            f"There is no file '{values['input_file_id']}'.", param="input_file_id"
        )
    if file.purpose != Purpose.BATCH:
        return errors.InvalidRequest(
            f"Invalid value for 'input_file_id': the purpose of '{file.id}' is "
            f"'{file.purpose}', not 'batch'.",
            param="input_file_id",
        )
    connection.execute(insert(Batch).values(values))
    return _get_one(connection, values["id"])


def _get_one(connection: Connection, batch_id: str) -> Row[Any]:
    query = select(database.table(Batch)).where(col(Batch.id) == batch_id)
    row: Row[Any] = connection.execute(query).one()
    return row


def get_one(batch_id: str) -> Row[Any]:
    """Return a batch that is there."""
    return database.run(lambda connection: _get_one(connection, batch_id))


def find(batch_id: str, account_id: int) -> Row[Any] | None:
    """Return the batch's row; None where there is none, or it is another account's."""
    if not batch_id.isprintable():
        return None  # Nor could the database be asked for a NUL.
    query = _of(account_id).where(col(Batch.id) == batch_id)
    return database.run(lambda connection: connection.execute(query).one_or_none())


def listing(limit: int, account_id: int, after: Row[Any] | None = None) -> list[Row[Any]]:
    """Return the newest `limit` batches of the account, those older than `after`."""
    query = _of(account_id)
    if after is not None:
        beside = and_(col(Batch.created) == after.created, col(Batch.id) < after.id)
        query = query.where(or_(col(Batch.created) < after.created, beside))
    query = query.order_by(col(Batch.created).desc(), col(Batch.id).desc()).limit(limit)
    return database.run(lambda connection: list(connection.execute(query)))


def _of(account_id: int) -> Any:
    return select(database.table(Batch)).where(col(Batch.account_id) == account_id)


def cancel(batch_id: str) -> Row[Any]:
    """Let no more lines of a batch begin, and have what runs ended; return how it stands.

    One that is over, or whose files are being written, stays as it is.
    """

    def work(connection: Connection) -> Row[Any]:
        connection.execute(
            update(Batch)
            .where(col(Batch.id) == batch_id, col(Batch.status).in_(BEFORE_THE_END))
            .values(
                status=BatchStatus.CANCELLING.value,
                cancelling_at=time.time(),
                **_rest_is(BATCH_CANCELLED),
            )
        )
        return _get_one(connection, batch_id)

    return database.run(work)


def _rest_is(why: dict[str, str]) -> dict[str, Any]:
    """Return the columns of a batch none of whose lines begins any more; what was said stays."""
    left = col(Batch.total) - col(Batch.fed)
    return {
        "rest": func.coalesce(col(Batch.rest), orjson.dumps(why).decode()),
        "failed": col(Batch.failed) + case((col(Batch.rest).is_(None), left), else_=0),
    }


# ---- Under a lease -------------------------------------------------------------------------------


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
    return query.where(turn <= MOST_AT_ONCE).order_by(turn, its.c.created, its.c.id).limit(most)


def still(connection: Connection, condition: ColumnElement[bool]) -> Row[Any] | None:
    """Return the batch of that condition, which nobody changes until the transaction's end."""
    query = database.locked(select(database.table(Batch)).where(condition))
    return connection.execute(query).one_or_none()


def advance(condition: ColumnElement[bool], **values: Any) -> None:
    """Change the batch of that condition; raise `NotOurs` where it holds no more."""

    def work(connection: Connection) -> int:
        return int(connection.execute(update(Batch).where(condition).values(**values)).rowcount)

    if not database.run(work):
        raise NotOurs


def stop_feeding(condition: ColumnElement[bool], why: dict[str, str]) -> None:
    """Let no more lines begin, because of `why`; raise `NotOurs`."""
    advance(condition, **_rest_is(why))


def insert_lines(condition: ColumnElement[bool], lines: list[dict[str, Any]]) -> None:
    """Insert some lines of a batch of that condition; raise `NotOurs`."""

    def work(connection: Connection) -> bool:
        if still(connection, condition) is None:
            return False
        connection.execute(insert(BatchLine), lines)
        return True

    if not database.run(work, repeatable=False):
        raise NotOurs


def forget_some_lines(condition: ColumnElement[bool]) -> bool:
    """Delete some lines of a batch, and what their jobs answered; False where none is left."""

    def work(connection: Connection) -> bool:
        row = still(connection, condition)
        if row is None:
            return False
        some = select(col(BatchLine.number), col(BatchLine.job_id))
        some = some.where(col(BatchLine.batch_id) == row.id).order_by(col(BatchLine.number))
        found = connection.execute(some.limit(SLICE)).all()
        if not found:
            return False
        jobs = [line.job_id for line in found if line.job_id is not None]
        connection.execute(delete(Result).where(col(Result.job_id).in_(jobs)))
        up_to = col(BatchLine.number) <= found[-1].number
        connection.execute(delete(BatchLine).where(col(BatchLine.batch_id) == row.id, up_to))
        return True

    return database.run(work)
