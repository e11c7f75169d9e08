"""Settlement: charge a job's cost, release the rest and store its answer, in one transaction."""

import time
from dataclasses import replace
from typing import Any, cast

import orjson
from sqlalchemy import Connection, Update, bindparam, insert, select, update
from sqlmodel import col

import database
from billing import holds, key_spending, ledger, outcomes
from billing.outcomes import ClaimedJob, JobOutcome, Settled, UpstreamAttribution
from database.clock import now
from models import webhook
from models.account import Account
from models.errors import LikeDoError
from models.job import Job, Result, Status
from models.webhook import Webhook

#: An answer is kept this long unless it is delivered sooner.
RESULT_SECONDS = 24 * 3600
#: The answer of a batch line is deleted when the batch is over, at the latest after this.
LINE_RESULT_SECONDS = 30 * 24 * 3600
_INSERT_RESULT = insert(Result)
# Whether it is due is decided by the database's clock, on every machine.
_INSERT_WEBHOOK = insert(Webhook).values(next_at=now(), tries=0)
TOO_MANY = "Too many webhooks of the account waited, and this was the oldest."


def _give_up_oldest() -> Update:
    """Return the statement that makes room for one more message of an account."""
    waiting = select(col(Webhook.id)).where(
        col(Webhook.account_id) == bindparam("account"), col(Webhook.next_at).is_not(None)
    )
    too_old = waiting.order_by(col(Webhook.created).desc()).offset(webhook.MAX_WAITING - 1)
    given_up: dict[str, Any] = {
        "next_at": None,
        "gave_up_at": bindparam("at"),
        "last_error": TOO_MANY,
    }
    return update(Webhook).where(col(Webhook.id).in_(too_old)).values(given_up)


_GIVE_UP_OLDEST = _give_up_oldest()


def settle(job: ClaimedJob, outcome: JobOutcome) -> Settled | None:
    """Store the answer, charge its actual cost and release the rest, in one transaction.

    Returns None if this attempt no longer owns the job; then nothing was written. A cost above the
    hold is taken from the available credits, within the key's limits, and what they do not cover is
    written off.
    """
    cost = outcome.cost(job)
    # The body is built before the transaction begins; only a write-off changes it.
    body = _body(outcome, cost)
    columns = {"status": Status.COMPLETED.value, **_columns(job, outcome)}

    def charge_and_store(connection: Connection) -> Settled | None:
        settled = _charge(connection, job, cost, columns)
        if settled is None:
            return None
        stored = body if settled.charged == cost else _body(outcome, settled.charged)
        _store(connection, job, stored)
        return replace(settled, body=stored)

    return database.run(charge_and_store)


def settle_cancelled(job: ClaimedJob, outcome: JobOutcome, error: LikeDoError) -> Settled | None:
    """End a job that was cancelled after its provider was called, and charge what it used.

    An outcome that outlasts the cancellation is stored for its caller like an answer.
    """
    cost = outcome.cost(job)
    columns = {
        "status": Status.CANCELLED.value,
        **_columns(job, outcome),
        "error": orjson.dumps(error.as_record()).decode(),
    }

    def charge_and_store(connection: Connection) -> Settled | None:
        settled = _charge(connection, job, cost, columns)
        if settled is not None and outcome.outlasts_cancel:
            _store(connection, job, _body(outcome, settled.charged))
        return settled

    return database.run(charge_and_store)


def _columns(job: ClaimedJob, outcome: JobOutcome) -> dict[str, Any]:
    upstream = outcome.upstream.columns(job)
    return {**upstream, "usage": outcome.usage_record(), "events": outcome.events}


def _store(connection: Connection, job: ClaimedJob, body: bytes) -> None:
    seconds = RESULT_SECONDS if job.batch_id is None else LINE_RESULT_SECONDS
    result = {"job_id": job.id, "body": body, "expires_at": time.time() + seconds}
    connection.execute(_INSERT_RESULT, result)


def _charge(
    connection: Connection, job: ClaimedJob, cost: int, columns: dict[str, Any]
) -> Settled | None:
    """End a claimed job and charge `cost` for it, or as much of it as account and key can spend."""
    account = ledger.lock(connection, job.account_id)
    spendable = account.balance - account.held + job.held
    charged = min(key_spending.chargeable(connection, job, cost), spendable)
    ended = _end(connection, job, charged=charged, **columns)
    if ended is None:
        return None
    ledger.record(connection, account, job.held, _movements(cost, charged), job.id)
    key_spending.record(connection, job.key_id, job.key_day, charged - job.held)
    has_waiting_jobs = holds.has_waiting_jobs(connection, job.account_id)
    return Settled(b"", charged, spendable - charged, has_waiting_jobs, bool(ended.webhook_url))


def _body(outcome: JobOutcome, charged: int) -> bytes:
    return orjson.dumps(outcome.content | {"credits_consumed": charged})


def _movements(cost: int, charged: int) -> list[tuple[str, int]]:
    """Return the ledger's entries for a cost; a write-off is credited before it is charged."""
    written_off = [("write_off", cost - charged)] if cost > charged else []
    return written_off + ([("charge", -cost)] if cost else [])


def fail(
    job: ClaimedJob,
    error: LikeDoError,
    upstream: UpstreamAttribution = outcomes.NO_UPSTREAM,
    status: Status = Status.FAILED,
    events: int | None = None,
) -> Settled | None:
    """End a claimed job with `error`, free of charge. None if this attempt no longer owns it."""
    columns = {
        "status": status.value,
        "events": events,
        **upstream.columns(job),
        "error": orjson.dumps(error.as_record()).decode(),
    }
    return database.run(lambda connection: _release(connection, job, columns))


def _release(connection: Connection, job: ClaimedJob, columns: dict[str, Any]) -> Settled | None:
    account = ledger.lock(connection, job.account_id)
    ended = _end(connection, job, charged=0, **columns)
    if ended is None:
        return None
    _release_credits(connection, job)
    available = account.balance - account.held + job.held
    has_waiting_jobs = holds.has_waiting_jobs(connection, job.account_id)
    return Settled(b"", 0, available, has_waiting_jobs, bool(ended.webhook_url))


class _EndedJob:
    id: str
    account_id: int
    status: str
    finished_at: float
    webhook_url: str | None


#: The columns of `_EndedJob`.
_ENDED: tuple[Any, ...] = (
    col(Job.id),
    col(Job.account_id),
    col(Job.status),
    col(Job.finished_at),
    col(Job.webhook_url),
)
# Guarded by status and attempt: a job ends once, and only the attempt that runs it ends it.
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


def _end(connection: Connection, job: ClaimedJob, **columns: Any) -> _EndedJob | None:
    """End a claimed job and return its row; None if this attempt no longer owns it."""
    optional = ("usage", "error", "events")
    new = dict.fromkeys(optional) | columns | {"finished_at": time.time()}
    values = {f"new_{name}": value for name, value in new.items()}
    values |= {"job": job.id, "attempt": job.attempt}
    ended = cast("_EndedJob | None", connection.execute(_END, values).one_or_none())
    if ended is not None:
        _put_in_outbox(connection, ended)
    return ended


def _put_in_outbox(connection: Connection, ended: _EndedJob) -> None:
    """Put a message about the ended job in the outbox, if it has a webhook."""
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
        "expires_at": ended.finished_at + webhook.EXPIRY_SECONDS,
    }
    connection.execute(_GIVE_UP_OLDEST, {"account": ended.account_id, "at": ended.finished_at})
    connection.execute(_INSERT_WEBHOOK, message)


def end_unclaimed(
    job_id: str, status: Status, error: LikeDoError, events: int | None = None
) -> bool:
    """End a job that no worker has claimed, free of charge; False if one has, or it has ended."""
    record = orjson.dumps(error.as_record()).decode()
    columns = {"status": status, "error": record, "events": events}
    return database.run(lambda connection: _end_waiting(connection, job_id, **columns))


class _HeldJob:
    account_id: int
    key_id: int
    held: int
    key_day: int | None


_HELD: tuple[Any, ...] = (
    *(col(Job.account_id), col(Job.key_id)),
    *(col(Job.held), col(Job.key_day)),
)


def _end_waiting(connection: Connection, job_id: str, **columns: Any) -> bool:
    row = database.one(select(*_HELD).where(col(Job.id) == job_id), _HeldJob, connection)
    if row is None:
        return False
    ledger.lock(connection, row.account_id)
    end = (
        update(Job)
        .where(col(Job.id) == job_id, col(Job.status) == Status.QUEUED)
        .values(finished_at=time.time(), charged=0, **columns)
        .returning(*_ENDED)
    )
    ended = database.one(end, _EndedJob, connection)
    if ended is None:
        return False
    _release_credits(connection, row)
    _put_in_outbox(connection, ended)
    return True


def _release_credits(connection: Connection, job: ClaimedJob | _HeldJob) -> None:
    """Give back all that is held for a job, to its account and to its key's limits."""
    connection.execute(
        update(Account)
        .where(col(Account.id) == job.account_id)
        .values(held=col(Account.held) - job.held)
    )
    key_spending.record(connection, job.key_id, job.key_day, -job.held)
