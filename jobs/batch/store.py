"""The rows of batches: creates, finds, lists and cancels them.

A batch is advanced under the lease of its worker, and every change made for that is guarded by the
lease: a worker that was taken for dead changes nothing.
"""

import time
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import Connection, and_, case, func, insert, or_, select, update
from sqlmodel import col

import database
from access import quota
from billing import ledger
from billing.holds import IDEMPOTENCY_SECONDS
from config.settings import settings
from jobs.kinds import KINDS
from jobs.lifecycle import retries
from models.batch import Batch, BatchStatus
from models.errors import InsufficientCredits, InvalidRequest, LikeDoError, NotFound
from models.file import Purpose
from storage import files

#: Batches of one account that are advanced at a time; the others wait.
MAX_ACTIVE_PER_ACCOUNT = 20

BATCH_CANCELLED = {"code": "batch_cancelled", "message": "The batch was cancelled."}
CANCELLABLE = (BatchStatus.VALIDATING.value, BatchStatus.IN_PROGRESS.value)


@dataclass(frozen=True)
class BatchSubmission:
    """Who submits a batch, and how a retry of that is recognized."""

    account_id: int
    key_id: int
    fingerprint: str
    #: The digest of the caller's idempotency key, and the number of the SDK's retry, if any.
    idempotency_digest: str | None
    retry_number: int | None


# ---- Creating and finding ------------------------------------------------------------------------


def find_retried(submission: BatchSubmission) -> Batch | None:
    """Return the batch that a request is a retry of; None if it is a new one."""
    return database.run(lambda connection: _find_retried(connection, submission), repeatable=False)


def _find_retried(connection: Connection, submission: BatchSubmission) -> Batch | None:
    if submission.idempotency_digest:
        return _by_idempotency_key(connection, submission)
    return _by_sdk_retry(connection, submission) if submission.retry_number else None


def _by_idempotency_key(connection: Connection, submission: BatchSubmission) -> Batch | None:
    query = select(database.table(Batch)).where(
        col(Batch.key_id) == submission.key_id,
        col(Batch.name) == submission.idempotency_digest,
        col(Batch.created) > time.time() - IDEMPOTENCY_SECONDS,
    )
    return database.one(query.order_by(col(Batch.created).desc()).limit(1), Batch, connection)


def _by_sdk_retry(connection: Connection, submission: BatchSubmission) -> Batch | None:
    """Return the oldest batch of the same request that no retry of this number has joined."""
    since = time.time() - settings.job_timeout_seconds - retries.GRACE_SECONDS
    query = select(database.table(Batch)).where(
        col(Batch.key_id) == submission.key_id,
        col(Batch.fingerprint) == submission.fingerprint,
        col(Batch.created) > since,
        col(Batch.joined) < submission.retry_number,
    )
    query = database.locked(query.order_by(col(Batch.created)).limit(1))
    batch = database.one(query, Batch, connection)
    if batch is not None:
        of_batch = update(Batch).where(col(Batch.id) == batch.id)
        database.execute(of_batch.values(joined=submission.retry_number), connection)
    return batch


def create(batch: Batch, max_stored_bytes: int) -> Batch:
    """Insert a batch and return it; or the one just created with the same idempotency key.

    Raises `NotFound` or `InvalidRequest` for its input file, `StorageQuotaExceeded` if the account
    would keep more than `max_stored_bytes`, and `InsufficientCredits` if its balance does not
    suffice for a single line.
    """
    values = batch.model_dump()
    outcome = database.run(
        lambda connection: _create(connection, values, max_stored_bytes), repeatable=False
    )
    if isinstance(outcome, LikeDoError):
        raise outcome
    return outcome


def _create(
    connection: Connection, values: dict[str, Any], max_stored_bytes: int
) -> Batch | LikeDoError:
    # A refusal is returned, not raised: on SQLite other transactions share this one's commit.
    account = ledger.lock(connection, values["account_id"])
    submission = BatchSubmission(
        values["account_id"], values["key_id"], values["fingerprint"], values["name"], None
    )
    if (existing := _find_retried(connection, submission)) is not None:
        return existing
    file = files.lock(connection, values["input_file_id"], values["account_id"])
    if file is None:
        return NotFound(f"There is no file '{values['input_file_id']}'.", param="input_file_id")
    if file.purpose != Purpose.BATCH:
        return InvalidRequest(
            f"Invalid value for 'input_file_id': the purpose of '{file.id}' is "
            f"'{file.purpose}', not 'batch'.",
            param="input_file_id",
        )
    check = quota.check_file(account.id, file.bytes, max_stored_bytes)
    if refusal := check(connection) or _unaffordable(values["kind"], account.balance):
        return refusal
    database.execute(insert(Batch).values(values), connection)
    return get_one(values["id"], connection)


def _unaffordable(kind: str, balance: int) -> InsufficientCredits | None:
    """Return the error if a balance does not suffice for any line of a batch."""
    # Credits that other calls hold may be released: its lines wait for that.
    cheapest = KINDS[kind].cheapest()
    if balance >= cheapest:
        return None
    return InsufficientCredits(
        f"A line of this batch costs at least {cheapest} credits; your balance is {balance}. "
        "Add credits."
    )


def get_one(batch_id: str, connection: Connection | None = None) -> Batch:
    """Return a batch that exists."""
    query = select(database.table(Batch)).where(col(Batch.id) == batch_id)
    batch = database.one(query, Batch, connection)
    assert batch is not None
    return batch


def find(batch_id: str, account_id: int) -> Batch | None:
    """Return the batch; None if there is none, or it is another account's."""
    if not batch_id.isprintable():
        return None  # PostgreSQL rejects NUL; such an id cannot exist.
    return database.one(_of_account(account_id).where(col(Batch.id) == batch_id), Batch)


def listing(limit: int, account_id: int, after: Batch | None = None) -> list[Batch]:
    """Return the newest `limit` batches of the account; with `after`, of those older than it."""
    query = _of_account(account_id)
    if after is not None:
        same_time = and_(col(Batch.created) == after.created, col(Batch.id) < after.id)
        query = query.where(or_(col(Batch.created) < after.created, same_time))
    query = query.order_by(col(Batch.created).desc(), col(Batch.id).desc()).limit(limit)
    return database.all(query, Batch)


def _of_account(account_id: int) -> Any:
    return select(database.table(Batch)).where(col(Batch.account_id) == account_id)


# ---- Cancelling ----------------------------------------------------------------------------------


def cancel(batch_id: str) -> Batch:
    """Dispatch no more lines of a batch and cancel those that run; return the batch.

    A batch that is over, or whose files are being written, stays as it is.
    """
    cancelling = (
        update(Batch)
        .where(col(Batch.id) == batch_id, col(Batch.status).in_(CANCELLABLE))
        .values(
            status=BatchStatus.CANCELLING.value,
            cancelling_at=time.time(),
            **columns_to_stop(BATCH_CANCELLED),
        )
    )

    def cancel_and_read(connection: Connection) -> Batch:
        database.execute(cancelling, connection)
        return get_one(batch_id, connection)

    return database.run(cancel_and_read)


def columns_to_stop(reason: dict[str, str]) -> dict[str, Any]:
    """Return the columns of a batch that dispatches no more lines; an earlier reason stays."""
    undispatched = col(Batch.total) - col(Batch.fed)
    return {
        "rest": func.coalesce(col(Batch.rest), orjson.dumps(reason).decode()),
        "failed": col(Batch.failed) + case((col(Batch.rest).is_(None), undispatched), else_=0),
    }
