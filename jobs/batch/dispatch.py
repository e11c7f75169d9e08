"""A batch's lines while they run: dispatched as jobs, recorded when they end, cancelled.

A line becomes a job in the transaction that holds credits for it and advances the batch, so that a
crash cannot dispatch it twice.
"""

from enum import Enum, auto
from typing import Any

import orjson
import structlog
from sqlalchemy import ColumnElement, Connection, and_, not_, select, update
from sqlmodel import col

import database
from billing import holds
from billing.holds import Hold
from billing.pricing import Quote
from config.settings import settings
from jobs.batch import ownership
from jobs.batch.ownership import OwnedBatch, OwnershipLost
from jobs.kinds import KINDS
from jobs.lifecycle import bodies, cancel, new, queue
from models.account import Account
from models.batch import Batch, BatchLine, BatchStatus
from models.errors import (
    CreditsHeld,
    InsufficientCredits,
    InvalidRequest,
    JobCancelled,
    KeyLimitReached,
    LikeDoError,
    Unavailable,
)
from models.job import FINAL, BodyAt, Job, Status

log = structlog.get_logger()

#: Lines of one batch that are queued or running.
MAX_RUNNING = 100

#: Columns of a job that no client waits for.
NO_CLIENT = {"stream": False, "include_usage": False, "cancel_on_disconnect": False}
FILE_GONE = {"code": "file_not_found", "message": "The input file is gone."}
CANCELLED = JobCancelled("The batch was cancelled.")
#: The condition of a line that is a job which, as far as the batch knows, has not ended.
_IS_RUNNING = and_(col(BatchLine.job_id).is_not(None), col(BatchLine.outcome).is_(None))


# ---- Ended lines ---------------------------------------------------------------------------------


class _RunningLine:
    number: int
    #: The status of its job.
    status: str


def record_ended(owned: OwnedBatch) -> tuple[Batch, int]:
    """Record which lines have ended; return the batch after that, and how many lines run."""
    may_change = owned.in_status(BatchStatus.IN_PROGRESS, BatchStatus.CANCELLING)
    recorded = database.run(lambda connection: _record_ended(connection, may_change))
    if recorded is None:
        raise OwnershipLost
    return recorded


def _record_ended(
    connection: Connection, may_change: ColumnElement[bool]
) -> tuple[Batch, int] | None:
    batch = ownership.lock_if(connection, may_change)
    if batch is None:
        return None
    query = select(col(BatchLine.number), col(Job.status)).join(
        Job, col(Job.id) == col(BatchLine.job_id)
    )
    query = query.where(col(BatchLine.batch_id) == batch.id, _IS_RUNNING)
    running = database.all(query, _RunningLine, connection)
    ended = [line for line in running if line.status in FINAL]
    if not ended:
        return batch, len(running)
    completed = [line.number for line in ended if line.status == Status.COMPLETED]
    failed = [line.number for line in ended if line.status != Status.COMPLETED]
    for outcome, numbers in (("completed", completed), ("failed", failed)):
        lines = (col(BatchLine.batch_id) == batch.id, col(BatchLine.number).in_(numbers))
        database.execute(update(BatchLine).where(*lines).values(outcome=outcome), connection)
    counts = {
        "completed": batch.completed + len(completed),
        "failed": batch.failed + len(failed),
    }
    database.execute(update(Batch).where(col(Batch.id) == batch.id).values(**counts), connection)
    return ownership.lock_if(connection, may_change) or batch, len(running) - len(ended)


def cancel_running(batch_id: str) -> None:
    """Cancel every queued or running line whose cancellation was not requested before."""
    is_requested = and_(
        col(Job.status) == Status.IN_PROGRESS.value, col(Job.cancel_requested).is_(True)
    )
    query = (
        select(col(Job.id))
        .join(BatchLine, col(BatchLine.job_id) == col(Job.id))
        .where(col(BatchLine.batch_id) == batch_id, _IS_RUNNING, not_(is_requested))
        # Queued ones first, so that none of them starts when a running one ends.
        .order_by(col(Job.status) == Status.IN_PROGRESS.value)
    )
    for job_id in database.run(lambda connection: list(connection.scalars(query))):
        cancel.cancel(job_id, CANCELLED)


# ---- Dispatching lines ---------------------------------------------------------------------------


class Dispatched(Enum):
    """Whether a line could become a job."""

    YES = auto()
    #: Its account's credits are held by running jobs, or the account is suspended: try later.
    LATER = auto()
    #: Neither this line nor those after it will ever become jobs.
    NEVER = auto()


def room(running: int) -> int:
    """Return how many more lines of a batch may become jobs while `running` lines run."""
    # More may run than this worker would have dispatched: another one dispatched them.
    return max(0, min(MAX_RUNNING, settings.worker_concurrency) - running)


def dispatch(owned: OwnedBatch, batch: Batch, count: int) -> None:
    """Make the next `count` lines jobs, as far as their account can pay for them."""
    query = (
        select(database.table(BatchLine))
        .where(col(BatchLine.batch_id) == batch.id, col(BatchLine.number) > batch.fed)
        .order_by(col(BatchLine.number))
        .limit(count)
    )
    for line in database.all(query, BatchLine):
        if not owned.may_dispatch or _dispatch(owned, batch, line) is not Dispatched.YES:
            return


def _dispatch(owned: OwnedBatch, batch: Batch, line: BatchLine) -> Dispatched:
    try:
        body = bodies.load_line(batch.input_file_id, line.start, line.length)
    except InvalidRequest as error:
        # A version with other bounds has accepted it.
        _fail(owned, line, error)
        return Dispatched.YES
    if body is None:
        ownership.stop_dispatching(owned.in_status(BatchStatus.IN_PROGRESS), FILE_GONE)
        return Dispatched.NEVER
    kind = KINDS[batch.kind]
    request = kind.from_validated(body)
    try:
        quote = kind.quote(request)
    except LikeDoError as error:
        # The catalogue has changed since the file was validated.
        _fail(owned, line, error)
        return Dispatched.YES
    job = new.row(
        kind,
        request,
        quote,
        account_id=batch.account_id,
        key_id=batch.key_id,
        body_bytes=line.length,
        body_at=BodyAt.FILE,
        asynchronous=True,
        batch_id=batch.id,
        line=line.number,
        **NO_CLIENT,
    )
    return _begin(owned, line, job, quote, orjson.dumps(body))


def _begin(
    owned: OwnedBatch, line: BatchLine, job: dict[str, Any], quote: Quote, body: bytes
) -> Dispatched:
    is_next = _is_next(owned, line)
    outcome = database.run(lambda connection: _hold(connection, is_next, job, quote))
    match outcome:
        case None:
            raise OwnershipLost
        case Hold():
            _enqueue(job, body)
            return Dispatched.YES
        case InsufficientCredits() | KeyLimitReached():
            reason = {"code": outcome.code, "message": outcome.message}
            ownership.stop_dispatching(is_next, reason)
            return Dispatched.NEVER
        case _:
            return Dispatched.LATER


def _is_next(owned: OwnedBatch, line: BatchLine) -> ColumnElement[bool]:
    """Return the condition of the batch if `line` is the next one to dispatch."""
    return and_(
        owned.in_status(BatchStatus.IN_PROGRESS),
        col(Batch.fed) == line.number - 1,
        col(Batch.rest).is_(None),
    )


def _hold(
    connection: Connection, is_next: ColumnElement[bool], job: dict[str, Any], quote: Quote
) -> Hold | LikeDoError | None:
    # Accounts are locked before anything else, everywhere.
    query = select(col(Account.suspended)).where(col(Account.id) == job["account_id"])
    is_suspended = database.scalar(database.locked(query), connection)
    if ownership.lock_if(connection, is_next) is None:
        return None
    if is_suspended:
        return CreditsHeld("The account is suspended.")
    outcome = holds.hold_line(connection, job, quote)
    if isinstance(outcome, Hold):
        _record_dispatched(connection, job["batch_id"], job["line"], job_id=job["id"])
    return outcome


def _record_dispatched(connection: Connection, batch_id: str, number: int, **values: Any) -> None:
    """Record what became of a line, and that the one after it is the next."""
    of_batch = update(Batch).where(col(Batch.id) == batch_id)
    database.execute(of_batch.values(fed=number), connection)
    line = (col(BatchLine.batch_id) == batch_id, col(BatchLine.number) == number)
    database.execute(update(BatchLine).where(*line).values(**values), connection)


def _fail(owned: OwnedBatch, line: BatchLine, error: LikeDoError) -> None:
    record = orjson.dumps({"code": error.code, "message": error.message}).decode()
    is_next = _is_next(owned, line)

    def fail_line(connection: Connection) -> bool:
        batch = ownership.lock_if(connection, is_next)
        if batch is None:
            return False
        _record_dispatched(connection, batch.id, line.number, outcome="failed", error=record)
        of_batch = update(Batch).where(col(Batch.id) == batch.id)
        database.execute(of_batch.values(failed=col(Batch.failed) + 1), connection)
        return True

    if not database.run(fail_line):
        raise OwnershipLost


def _enqueue(job: dict[str, Any], body: bytes) -> None:
    try:
        queue.enqueue_line(job["id"], job["kind"], job["batch_id"], body)
    except Unavailable as error:
        # Maintenance will find it missing from the queue.
        log.warning("batch.enqueue_delayed", job=job["id"], reason=error.message)
