"""A batch's row: made, found, cancelled, and brought from one status to the next.

Whoever advances a batch does so under its worker's lease, and every change of theirs is guarded by
it: what a worker does that was taken for dead changes nothing.
"""

import time
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import Connection, and_, case, func, insert, or_, select, update
from sqlmodel import col

import database
from billing.holds import IDEMPOTENCY_SECONDS
from config.settings import settings
from jobs.lifecycle import retries
from models.account import Account
from models.batch import Batch, BatchStatus
from models.errors import InvalidRequest, LikeDoError, NotFound
from models.file import Purpose
from storage import files

#: Batches of one account that are advanced at a time; the others wait.
MAX_AT_ONCE = 20

BATCH_CANCELLED = {"code": "batch_cancelled", "message": "The batch was cancelled."}
BEFORE_THE_END = (BatchStatus.VALIDATING.value, BatchStatus.IN_PROGRESS.value)


@dataclass(frozen=True)
class BatchSubmission:
    """Who asks for a batch, and by what a retry of that is told."""

    account_id: int
    key_id: int
    fingerprint: str
    #: The digest of the caller's own key, and the number of the retry, if any.
    name: str | None
    retry: int | None


# ---- Made and found ------------------------------------------------------------------------------


def earlier(asked: BatchSubmission) -> Batch | None:
    """Return the batch that a request is a retry of; None where it is a new one."""
    return database.run(lambda connection: _earlier(connection, asked), repeatable=False)


def _earlier(connection: Connection, asked: BatchSubmission) -> Batch | None:
    if asked.name:
        return _named(connection, asked)
    return _counted(connection, asked) if asked.retry else None


def _named(connection: Connection, asked: BatchSubmission) -> Batch | None:
    query = select(database.table(Batch)).where(
        col(Batch.key_id) == asked.key_id,
        col(Batch.name) == asked.name,
        col(Batch.created) > time.time() - IDEMPOTENCY_SECONDS,
    )
    return database.one(query.order_by(col(Batch.created).desc()).limit(1), Batch, connection)


def _counted(connection: Connection, asked: BatchSubmission) -> Batch | None:
    """Return the oldest batch of the same request that no retry of this number has joined."""
    since = time.time() - settings.job_timeout_seconds - retries.GRACE_SECONDS
    query = select(database.table(Batch)).where(
        col(Batch.key_id) == asked.key_id,
        col(Batch.fingerprint) == asked.fingerprint,
        col(Batch.created) > since,
        col(Batch.joined) < asked.retry,
    )
    query = database.locked(query.order_by(col(Batch.created)).limit(1))
    if (row := database.one(query, Batch, connection)) is not None:
        _change(connection, row.id, joined=asked.retry)
    return row


def _change(connection: Connection, batch_id: str, **values: Any) -> None:
    connection.execute(update(Batch).where(col(Batch.id) == batch_id).values(**values))


def create(batch: Batch) -> Batch:
    """Insert a batch and return its row; that of the same name, where one was just made.

    Raises `NotFound` or `InvalidRequest` on its input file.
    """
    values = batch.model_dump()
    outcome = database.run(lambda connection: _create(connection, values), repeatable=False)
    if isinstance(outcome, LikeDoError):
        raise outcome
    return outcome


def _create(connection: Connection, values: dict[str, Any]) -> Batch | LikeDoError:
    # A refusal is returned, not raised: on SQLite other transactions share this one's commit.
    account = select(col(Account.id)).where(col(Account.id) == values["account_id"])
    connection.execute(database.locked(account))
    asked = BatchSubmission(
        values["account_id"], values["key_id"], values["fingerprint"], values["name"], None
    )
    if (there := _earlier(connection, asked)) is not None:
        return there
    file = files.lock(connection, values["input_file_id"], values["account_id"])
    if file is None:
        return NotFound(f"There is no file '{values['input_file_id']}'.", param="input_file_id")
    if file.purpose != Purpose.BATCH:
        return InvalidRequest(
            f"Invalid value for 'input_file_id': the purpose of '{file.id}' is "
            f"'{file.purpose}', not 'batch'.",
            param="input_file_id",
        )
    connection.execute(insert(Batch).values(values))
    return _get_one(connection, values["id"])


def _get_one(connection: Connection, batch_id: str) -> Batch:
    query = select(database.table(Batch)).where(col(Batch.id) == batch_id)
    row = database.one(query, Batch, connection)
    assert row is not None
    return row


def get_one(batch_id: str) -> Any:
    """Return a batch that is there."""
    return database.run(lambda connection: _get_one(connection, batch_id))


def find(batch_id: str, account_id: int) -> Batch | None:
    """Return the batch's row; None where there is none, or it is another account's."""
    if not batch_id.isprintable():
        return None  # Nor could the database be asked for a NUL.
    query = _of(account_id).where(col(Batch.id) == batch_id)
    return database.one(query, Batch)


def listing(limit: int, account_id: int, after: Batch | None = None) -> list[Batch]:
    """Return the newest `limit` batches of the account, those older than `after`."""
    query = _of(account_id)
    if after is not None:
        beside = and_(col(Batch.created) == after.created, col(Batch.id) < after.id)
        query = query.where(or_(col(Batch.created) < after.created, beside))
    query = query.order_by(col(Batch.created).desc(), col(Batch.id).desc()).limit(limit)
    return database.all(query, Batch)


def _of(account_id: int) -> Any:
    return select(database.table(Batch)).where(col(Batch.account_id) == account_id)


def cancel(batch_id: str) -> Batch:
    """Let no more lines of a batch begin, and have what runs ended; return how it stands.

    One that is over, or whose files are being written, stays as it is.
    """

    def work(connection: Connection) -> Batch:
        connection.execute(
            update(Batch)
            .where(col(Batch.id) == batch_id, col(Batch.status).in_(BEFORE_THE_END))
            .values(
                status=BatchStatus.CANCELLING.value,
                cancelling_at=time.time(),
                **rest_is(BATCH_CANCELLED),
            )
        )
        return _get_one(connection, batch_id)

    return database.run(work)


def rest_is(why: dict[str, str]) -> dict[str, Any]:
    """Return the columns of a batch none of whose lines begins any more; what was said stays."""
    left = col(Batch.total) - col(Batch.fed)
    return {
        "rest": func.coalesce(col(Batch.rest), orjson.dumps(why).decode()),
        "failed": col(Batch.failed) + case((col(Batch.rest).is_(None), left), else_=0),
    }
