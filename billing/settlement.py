"""Settlement: charge a job's cost, release the rest, store its answer: one transaction."""

import time
from dataclasses import replace
from typing import Any

import orjson
from sqlalchemy import Connection, Row, bindparam, insert, select, update
from sqlmodel import col

import database
from billing import holds, ledger, outcomes
from billing.outcomes import ClaimedJob, JobOutcome, Settled, UpstreamAttribution
from database.clock import now
from models import webhook
from models.account import Account
from models.errors import LikeDoError
from models.job import Job, Result, Status
from models.webhook import Webhook

#: An answer is kept this long unless it is handed over sooner.
RESULT_SECONDS = 24 * 3600
#: That of a batch's line is forgotten when the batch is over; so long at the most.
LINE_RESULT_SECONDS = 30 * 24 * 3600
_INSERT_RESULT = insert(Result)
# When it is due is read by the database's clock, on whichever machine.
_INSERT_WEBHOOK = insert(Webhook).values(next_at=now(), tries=0)


def settle(job: ClaimedJob, answer: JobOutcome) -> Settled | None:
    """Store the answer, charge its real cost and give the rest of the hold back, all in one.

    Returns None where the job is no longer this attempt's to end; then nothing was written.
    What the cost exceeds the hold by is taken from what is available, and what even that does
    not cover is written off.
    """
    cost = answer.cost(job)
    # The body is ready before the transaction begins; only a write-off makes it say otherwise.
    body = _body(answer, cost)
    columns = {"status": Status.COMPLETED.value, **_columns(job, answer)}

    def work(connection: Connection) -> Settled | None:
        charge = _charge(connection, job, cost, columns)
        if charge is None:
            return None
        kept = body if charge.charged == cost else _body(answer, charge.charged)
        _keep(connection, job, kept)
        return replace(charge, body=kept)

    return database.run(work)


def settle_cancelled(job: ClaimedJob, used: JobOutcome, error: LikeDoError) -> Settled | None:
    """End a job that was cancelled after its provider was called, and charge what it `used`.

    What outlasts that is kept for its caller, as an answer is.
    """
    cost = used.cost(job)
    columns = {
        "status": Status.CANCELLED.value,
        **_columns(job, used),
        "error": orjson.dumps(error.as_record()).decode(),
    }

    def work(connection: Connection) -> Settled | None:
        charge = _charge(connection, job, cost, columns)
        if charge is not None and used.outlasts_cancel:
            _keep(connection, job, _body(used, charge.charged))
        return charge

    return database.run(work)


def _columns(job: ClaimedJob, answer: JobOutcome) -> dict[str, Any]:
    asked = answer.asked.columns(job)
    return {**asked, "usage": answer.usage_record(), "events": answer.events}


def _keep(connection: Connection, job: ClaimedJob, body: bytes) -> None:
    seconds = RESULT_SECONDS if job.batch_id is None else LINE_RESULT_SECONDS
    result = {"job_id": job.id, "body": body, "expires_at": time.time() + seconds}
    connection.execute(_INSERT_RESULT, result)


def _charge(
    connection: Connection, job: ClaimedJob, cost: int, columns: dict[str, Any]
) -> Settled | None:
    """End a claimed job and charge `cost` for it, or what the account can spend of that."""
    account = ledger.lock(connection, job.account_id)
    spendable = account.balance - account.held + job.held
    charged = min(cost, spendable)
    ended = _end(connection, job, charged=charged, **columns)
    if ended is None:
        return None
    ledger.record(connection, account, job.held, _movements(cost, charged), job.id)
    wait = holds.has_waiting_jobs(connection, job.account_id)
    return Settled(b"", charged, spendable - charged, wait, bool(ended.webhook_url))


def _body(answer: JobOutcome, charged: int) -> bytes:
    return orjson.dumps(answer.content | {"credits_consumed": charged})


def _movements(cost: int, charged: int) -> list[tuple[str, int]]:
    """Return the ledger's entries for a cost: what is written off comes in before it goes out."""
    written_off = [("write_off", cost - charged)] if cost > charged else []
    return written_off + ([("charge", -cost)] if cost else [])


def fail(
    job: ClaimedJob,
    error: LikeDoError,
    asked: UpstreamAttribution = outcomes.NO_UPSTREAM,
    status: Status = Status.FAILED,
    events: int | None = None,
) -> Settled | None:
    """End a claimed job with `error`, free of charge. None where it was no longer ours to end."""
    columns = {
        "status": status.value,
        "events": events,
        **asked.columns(job),
        "error": orjson.dumps(error.as_record()).decode(),
    }
    return database.run(lambda connection: _release(connection, job, columns))


def _release(connection: Connection, job: ClaimedJob, columns: dict[str, Any]) -> Settled | None:
    account = ledger.lock(connection, job.account_id)
    ended = _end(connection, job, charged=0, **columns)
    if ended is None:
        return None
    _give_back(connection, job.account_id, job.held)
    available = account.balance - account.held + job.held
    wait = holds.has_waiting_jobs(connection, job.account_id)
    return Settled(b"", 0, available, wait, bool(ended.webhook_url))


#: What is asked back of a job that was brought to its end.
_ENDED: tuple[Any, ...] = (
    col(Job.id),
    col(Job.account_id),
    col(Job.status),
    col(Job.finished_at),
    col(Job.webhook_url),
)
# Guarded by state and attempt: a job is ended once, and by nobody but the attempt that runs it.
_END = (
    update(Job)
    .where(
        col(Job.id) == bindparam("job"),
        col(Job.status) == Status.IN_PROGRESS.value,
        col(Job.attempts) == bindparam("attempt"),
    )
    .values(
        {
            name: bindparam(f"new_{name}")
            for name in (
                "status",
                "finished_at",
                "charged",
                "provider",
                "upstream_model",
                "price",
                "trail",
                "usage",
                "error",
                "events",
            )
        }
    )
    .returning(*_ENDED)
)


def _end(connection: Connection, job: ClaimedJob, **columns: Any) -> Row[Any] | None:
    """Bring a claimed job to its end, and return its row; None where it is not this attempt's."""
    unsaid = ("usage", "error", "events")
    new = dict.fromkeys(unsaid) | columns | {"finished_at": time.time()}
    values = {f"new_{name}": value for name, value in new.items()}
    values |= {"job": job.id, "attempt": job.attempt}
    ended = connection.execute(_END, values).one_or_none()
    if ended is not None:
        _put_in_outbox(connection, ended)
    return ended


def _put_in_outbox(connection: Connection, ended: Row[Any]) -> None:
    """Have a job's end told to its webhook, where it has one; `ended` is what `_ENDED` names."""
    if ended.webhook_url is None:
        return
    message = {
        "id": webhook.make_id(),
        "account_id": ended.account_id,
        "job_id": ended.id,
        "type": f"job.{ended.status}",
        "url": ended.webhook_url,
        "host": webhook.host_of(ended.webhook_url),
        "created": ended.finished_at,
    }
    connection.execute(_INSERT_WEBHOOK, message)


def end_unclaimed(
    job_id: str, status: Status, error: LikeDoError, events: int | None = None
) -> bool:
    """End a job that no worker has, free of charge. False where one has it, or it has ended."""
    record = orjson.dumps(error.as_record()).decode()
    columns = {"status": status, "error": record, "events": events}
    return database.run(lambda connection: _end_waiting(connection, job_id, **columns))


def _end_waiting(connection: Connection, job_id: str, **columns: Any) -> bool:
    row = connection.execute(
        select(col(Job.account_id), col(Job.held)).where(col(Job.id) == job_id)
    ).one_or_none()
    if row is None:
        return False
    ledger.lock(connection, row.account_id)
    ended = connection.execute(
        update(Job)
        .where(col(Job.id) == job_id, col(Job.status) == Status.QUEUED)
        .values(finished_at=time.time(), charged=0, **columns)
        .returning(*_ENDED)
    ).one_or_none()
    if ended is None:
        return False
    _give_back(connection, row.account_id, row.held)
    _put_in_outbox(connection, ended)
    return True


def _give_back(connection: Connection, account_id: int, credits: int) -> None:
    connection.execute(
        update(Account)
        .where(col(Account.id) == account_id)
        .values(held=col(Account.held) - credits)
    )
