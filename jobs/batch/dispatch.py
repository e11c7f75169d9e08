"""A batch's lines while they run: made jobs as there is room, noted when they end, cancelled.

A line becomes a job in the transaction that holds for it and moves the batch on, so that no crash
makes it two.
"""

from enum import Enum, auto
from typing import Any

import orjson
import structlog
from sqlalchemy import ColumnElement, Connection, Row, and_, not_, select, update
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
from models.errors import CreditsHeld, InsufficientCredits, JobCancelled, LikeDoError, Unavailable
from models.job import FINAL, BodyAt, Job, Status

log = structlog.get_logger()

#: Lines of one batch that are in the queue or run, at the most.
MAX_AHEAD = 100

#: Columns of a job for which no client waits.
NO_CLIENT = {"stream": False, "include_usage": False, "cancel_on_disconnect": False}
FILE_GONE = {"code": "file_not_found", "message": "The input file is gone."}
CANCELLED = JobCancelled("The batch was cancelled.")
#: Of a line: it is a job that, as far as the batch knows, has not ended.
_RUNS = and_(col(BatchLine.job_id).is_not(None), col(BatchLine.outcome).is_(None))


# ---- Ending --------------------------------------------------------------------------------------


def note_ended(held: OwnedBatch) -> tuple[Row[Any], int]:
    """Note which lines have ended; return how the batch stands then, and how many lines run."""
    ours = held.in_status(BatchStatus.IN_PROGRESS, BatchStatus.CANCELLING)
    noted = database.run(lambda connection: _note_ended(connection, ours))
    if noted is None:
        raise OwnershipLost
    return noted


def _note_ended(connection: Connection, ours: ColumnElement[bool]) -> tuple[Row[Any], int] | None:
    row = ownership.lock_if(connection, ours)
    if row is None:
        return None
    query = select(col(BatchLine.number), col(Job.status)).join(
        Job, col(Job.id) == col(BatchLine.job_id)
    )
    running = connection.execute(query.where(col(BatchLine.batch_id) == row.id, _RUNS)).all()
    ended = [line for line in running if line.status in FINAL]
    if not ended:
        return row, len(running)
    done = [line.number for line in ended if line.status == Status.COMPLETED]
    failed = [line.number for line in ended if line.status != Status.COMPLETED]
    for outcome, numbers in (("completed", done), ("failed", failed)):
        its = (col(BatchLine.batch_id) == row.id, col(BatchLine.number).in_(numbers))
        connection.execute(update(BatchLine).where(*its).values(outcome=outcome))
    counts = {"completed": row.completed + len(done), "failed": row.failed + len(failed)}
    connection.execute(update(Batch).where(col(Batch.id) == row.id).values(**counts))
    return ownership.lock_if(connection, ours) or row, len(running) - len(ended)


def cancel_running(batch_id: str) -> None:
    """Have every line ended that runs or waits in the queue, unless its worker was told to."""
    told = and_(col(Job.status) == Status.IN_PROGRESS.value, col(Job.cancel_requested).is_(True))
    query = (
        select(col(Job.id))
        .join(BatchLine, col(BatchLine.job_id) == col(Job.id))
        .where(col(BatchLine.batch_id) == batch_id, _RUNS, not_(told))
        # Those that wait first, or one of them would begin in the place of one that ends.
        .order_by(col(Job.status) == Status.IN_PROGRESS.value)
    )
    for job_id in database.run(lambda connection: list(connection.execute(query).scalars())):
        cancel.cancel(job_id, CANCELLED)


# ---- Beginning -----------------------------------------------------------------------------------


class Dispatched(Enum):
    """What became of a line that was to become a job."""

    YES = auto()
    #: Its account's credits are held by what runs, or it is suspended: later.
    LATER = auto()
    #: It and the lines after it never will.
    NEVER = auto()


def room(running: int) -> int:
    """Return how many lines of a batch may become jobs while so many run."""
    # More may run than this worker would have begun: another fed them.
    return max(0, min(MAX_AHEAD, settings.worker_concurrency) - running)


def dispatch(held: OwnedBatch, row: Row[Any], count: int) -> None:
    """Make the next `count` lines jobs, as far as their account affords them."""
    query = (
        select(database.table(BatchLine))
        .where(col(BatchLine.batch_id) == row.id, col(BatchLine.number) > row.fed)
        .order_by(col(BatchLine.number))
        .limit(count)
    )
    for line in database.run(lambda connection: list(connection.execute(query))):
        if not held.may_begin_more or _dispatch(held, row, line) is not Dispatched.YES:
            return


def _dispatch(held: OwnedBatch, row: Row[Any], line: Row[Any]) -> Dispatched:
    body = bodies.load_line(row.input_file_id, line.start, line.length)
    if body is None:
        ownership.stop_dispatching(held.in_status(BatchStatus.IN_PROGRESS), FILE_GONE)
        return Dispatched.NEVER
    kind = KINDS[row.kind]
    request = kind.checked(body)
    try:
        quote = kind.quote(request)
    except LikeDoError as error:
        # What could be asked for when the file was checked is gone from the catalogue.
        _fail(held, line, error)
        return Dispatched.YES
    job = new.row(
        kind,
        request,
        quote,
        account_id=row.account_id,
        key_id=row.key_id,
        body_bytes=line.length,
        body_at=BodyAt.FILE,
        asynchronous=True,
        batch_id=row.id,
        line=line.number,
        **NO_CLIENT,
    )
    return _begin(held, line, job, quote, orjson.dumps(body))


def _begin(
    held: OwnedBatch, line: Row[Any], job: dict[str, Any], quote: Quote, body: bytes
) -> Dispatched:
    next_one = _is_next(held, line)
    outcome = database.run(lambda connection: _hold(connection, next_one, job, quote))
    match outcome:
        case None:
            raise OwnershipLost
        case Hold():
            _enqueue(job, body)
            return Dispatched.YES
        case InsufficientCredits():
            why = {"code": outcome.code, "message": outcome.message}
            ownership.stop_dispatching(next_one, why)
            return Dispatched.NEVER
        case _:
            return Dispatched.LATER


def _is_next(held: OwnedBatch, line: Row[Any]) -> ColumnElement[bool]:
    """Return the condition of a batch whose next line this is."""
    return and_(
        held.in_status(BatchStatus.IN_PROGRESS),
        col(Batch.fed) == line.number - 1,
        col(Batch.rest).is_(None),
    )


def _hold(
    connection: Connection, next_one: ColumnElement[bool], job: dict[str, Any], quote: Quote
) -> Hold | LikeDoError | None:
    # Accounts are locked before anything else, everywhere.
    account = connection.execute(
        database.locked(select(col(Account.suspended)).where(col(Account.id) == job["account_id"]))
    ).one()
    if ownership.lock_if(connection, next_one) is None:
        return None
    if account.suspended:
        return CreditsHeld("The account is suspended.")
    held = holds.hold_line(connection, job, quote)
    if isinstance(held, Hold):
        _move_on(connection, job["batch_id"], job["line"], job_id=job["id"])
    return held


def _move_on(connection: Connection, batch_id: str, number: int, **values: Any) -> None:
    """Write down what became of a line, and that the one after it is the next."""
    connection.execute(update(Batch).where(col(Batch.id) == batch_id).values(fed=number))
    its = (col(BatchLine.batch_id) == batch_id, col(BatchLine.number) == number)
    connection.execute(update(BatchLine).where(*its).values(**values))


def _fail(held: OwnedBatch, line: Row[Any], error: LikeDoError) -> None:
    told = orjson.dumps({"code": error.code, "message": error.message}).decode()
    next_one = _is_next(held, line)

    def work(connection: Connection) -> bool:
        row = ownership.lock_if(connection, next_one)
        if row is None:
            return False
        _move_on(connection, row.id, line.number, outcome="failed", error=told)
        its = update(Batch).where(col(Batch.id) == row.id)
        connection.execute(its.values(failed=col(Batch.failed) + 1))
        return True

    if not database.run(work):
        raise OwnershipLost


def _enqueue(job: dict[str, Any], body: bytes) -> None:
    try:
        queue.enqueue_line(job["id"], job["kind"], job["batch_id"], body)
    except Unavailable as error:
        # Upkeep finds that the queue does not know it.
        log.warning("batch.queue_waits", job=job["id"], reason=error.message)
