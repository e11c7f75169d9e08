"""How a job's row changes hands: claimed by a worker, handed back, left, handed over.

What a change of state costs is the ledger's part; these cost nothing.
"""

import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import Connection, Update, and_, bindparam, exists, func, or_, select, update
from sqlmodel import col

import database
from billing.outcomes import ClaimedJob
from jobs.kinds import IMAGE_KINDS
from jobs.streaming.messages import Source
from models.job import IS_QUEUED, Job, Result, Status
from models.provider_call import CallStatus, ProviderCall

#: An answer that was handed over is kept this long, for a retry that missed its last bytes.
DELIVERED_SECONDS = 600


@dataclass(frozen=True)
class Claim:
    """A job that is this worker's to run, as far as running it needs to know."""

    job: ClaimedJob
    model: str
    kind: str
    body_at: str
    max_tokens: int
    #: Whether it ends when nobody listens to it.
    cancel_on_disconnect: bool
    #: The attempts of earlier workers.
    trail: list[dict[str, Any]]
    #: It is only to be ended.
    is_cancelled: bool = False


def claim(job_id: str, worker: str) -> Claim | None:
    """Take a queued job for `worker`; None where it is not there to be taken."""
    return database.run(lambda connection: _claim(connection, job_id, worker))


_CLAIM = (
    update(Job)
    .where(
        col(Job.id) == bindparam("job"),
        col(Job.status) == Status.QUEUED.value,
        # What was cancelled while its worker was dying is upkeep's to end; but for images, of
        # which some may be stored and others be in the making.
        or_(col(Job.cancel_requested).is_(False), col(Job.kind).in_(IMAGE_KINDS)),
    )
    .values(
        status=Status.IN_PROGRESS.value,
        attempts=col(Job.attempts) + 1,
        worker=bindparam("by"),
        started_at=bindparam("at"),
    )
    .returning(
        col(Job.account_id),
        col(Job.attempts),
        col(Job.held),
        col(Job.price),
        col(Job.model),
        col(Job.kind),
        col(Job.body_at),
        col(Job.max_tokens),
        col(Job.cancel_on_disconnect),
        col(Job.trail),
        col(Job.batch_id),
        col(Job.cancel_requested),
    )
)


def _claim(connection: Connection, job_id: str, worker: str) -> Claim | None:
    row = connection.execute(_CLAIM, {"job": job_id, "by": worker, "at": time.time()}).one_or_none()
    if row is None:
        return None
    job = ClaimedJob(job_id, row.account_id, row.attempts, row.held, row.price, row.batch_id)
    trail = _of_earlier_claims(row.attempts - 1, orjson.loads(row.trail or "[]"))
    return Claim(
        job,
        row.model,
        row.kind,
        row.body_at,
        row.max_tokens,
        row.cancel_on_disconnect,
        trail,
        row.cancel_requested,
    )


def _of_earlier_claims(claims: int, trail: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return `trail` with an attempt for each claim by a worker that died and told nothing."""
    unknown = dict.fromkeys(("provider", "upstream_model", "at", "seconds"))
    return trail + [unknown | {"error": "unavailable"}] * max(0, claims - len(trail))


def trail_of(row: Job) -> list[dict[str, Any]] | None:
    """Return each time a provider was asked for a job; None where that is not known yet."""
    return None if row.trail is None else list(orjson.loads(row.trail))


def source(row: Job) -> Source:
    """Return who answered a job, or was asked last."""
    return Source(row.provider, row.upstream_model, attempts(row))


def attempts(row: Job) -> int:
    """Return how often a provider was asked for a job; while it runs, at least that."""
    trail = trail_of(row)
    return int(row.attempts) if trail is None else len(trail)


def note_trail(job: ClaimedJob, trail: list[dict[str, Any]]) -> None:
    """Remember what became of a running job so far; where it is no longer ours, nothing."""

    def work(connection: Connection) -> None:
        connection.execute(_ours(job).values(trail=orjson.dumps(trail).decode()))

    database.run(work)


def _ours(job: ClaimedJob) -> Update:
    """Return an update of the job's row for as long as this attempt runs it."""
    return update(Job).where(
        col(Job.id) == job.id,
        col(Job.status) == Status.IN_PROGRESS,
        col(Job.attempts) == job.attempt,
    )


def hand_back(job: ClaimedJob, trail: list[dict[str, Any]]) -> bool:
    """Put a claimed job back in the queue, for another worker. False where it is not ours."""
    told = orjson.dumps(trail).decode()

    def work(connection: Connection) -> bool:
        changed = connection.execute(
            _ours(job).values(
                status=Status.QUEUED, worker=None, enqueued_at=time.time(), trail=told
            )
        )
        return bool(changed.rowcount)

    return database.run(work)


def mark_left(job_id: str) -> None:
    """Remember that the client that waited for the job is gone."""

    def work(connection: Connection) -> None:
        connection.execute(
            update(Job)
            .where(col(Job.id) == job_id, col(Job.left_at).is_(None))
            .values(left_at=time.time())
        )

    database.run(work)


def mark_delivered(job_ids: list[str]) -> None:
    """Remember that the answers of these jobs reached their callers."""
    at = time.time()

    these = col(Job.id).in_(job_ids)
    # What may be fetched again later is kept as long as what nobody took.
    short_lived = select(col(Job.id)).where(
        these, col(Job.asynchronous).is_(False), col(Job.is_idempotent).is_(False)
    )

    def work(connection: Connection) -> None:
        connection.execute(
            update(Job).where(these, col(Job.handed_over_at).is_(None)).values(handed_over_at=at)
        )
        connection.execute(
            update(Result)
            .where(col(Result.job_id).in_(short_lived))
            .values(expires_at=at + DELIVERED_SECONDS)
        )

    database.run(work)


def mark_begun(job_ids: Collection[str]) -> None:
    """Remember that these streams have said something, whatever becomes of their logs."""

    def work(connection: Connection) -> None:
        connection.execute(
            update(Job).where(col(Job.id).in_(job_ids), col(Job.events).is_(None)).values(events=0)
        )

    database.run(work)


def find(job_id: str, account_id: int | None = None) -> Job | None:
    """Return the job's row; None where there is none, or it is another account's."""
    if not job_id.isprintable():
        return None  # Nor could the database be asked for a NUL.
    query = select(database.table(Job)).where(col(Job.id) == job_id)
    if account_id is not None:
        query = query.where(col(Job.account_id) == account_id)
    return database.one(query, Job)


def result(job_id: str) -> bytes | None:
    """Return the job's answer as JSON bytes; None where there is none, or no longer."""

    def work(connection: Connection) -> bytes | None:
        return connection.execute(
            select(col(Result.body)).where(col(Result.job_id) == job_id)
        ).scalar_one_or_none()

    return database.run(work)


def position(row: Job) -> int | None:
    """Return how many jobs of its kind, itself included, are queued up to this one."""
    if row.status != Status.QUEUED:
        return None

    def work(connection: Connection) -> int:
        ahead = select(func.count()).where(
            IS_QUEUED,
            col(Job.kind) == row.kind,
            # Lines of batches have queues of their own.
            col(Job.batch_id).is_(None) if row.batch_id is None else col(Job.batch_id).is_not(None),
            col(Job.created) <= row.created,
        )
        # It may have been taken on since its row was read; then it was the first.
        return max(1, int(connection.execute(ahead).scalar_one()))

    return database.run(work)


def listing(
    limit: int,
    account_id: int | None = None,
    status: str | None = None,
    kind: str | None = None,
    after: Job | None = None,
) -> list[Job]:
    """Return the newest `limit` jobs that fit, the newest first; those older than `after`.

    Lines of batches are not among them: there may be thousands, and their batch tells of them.
    """
    wanted = {Job.account_id: account_id, Job.status: status, Job.kind: kind}
    query = select(database.table(Job)).where(
        col(Job.batch_id).is_(None),
        *(col(column) == value for column, value in wanted.items() if value is not None),
    )
    if after is not None:
        older = and_(col(Job.created) == after.created, col(Job.id) < after.id)
        query = query.where(or_(col(Job.created) < after.created, older))
    query = query.order_by(col(Job.created).desc(), col(Job.id).desc()).limit(limit)
    return database.all(query, Job)


def request_cancel(job_id: str, status: Status = Status.IN_PROGRESS) -> bool:
    """Ask the worker that runs a job, or will, to end it. False where its `status` is another."""

    def work(connection: Connection) -> bool:
        asked = connection.execute(
            update(Job)
            .where(col(Job.id) == job_id, col(Job.status) == status.value)
            .values(cancel_requested=True)
        )
        return bool(asked.rowcount)

    return database.run(work)


def has_provider_calls(job_id: str) -> bool:
    """Tell whether a provider was asked for images of the job, by whichever worker."""
    asked = exists().where(
        col(ProviderCall.job_id) == job_id, col(ProviderCall.status) != CallStatus.UNASKED.value
    )
    return database.run(lambda connection: bool(connection.execute(select(asked)).scalar_one()))
