"""The job store: claims, hands back, marks, finds and lists jobs' rows.

Changes of state that cost credits belong to `billing`; none of these does.
"""

import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, cast

import orjson
from sqlalchemy import (
    Connection,
    Update,
    bindparam,
    exists,
    func,
    or_,
    select,
    update,
)
from sqlmodel import col

import database
from billing.outcomes import ClaimedJob
from jobs.kinds import IMAGE_KINDS
from jobs.streaming.messages import Source
from models.job import (
    IS_QUEUED,
    Job,
    Result,
    Status,
)
from models.provider_call import CallStatus, ProviderCall

#: How long a delivered answer is kept, for a retry that missed its last bytes.
DELIVERED_SECONDS = 600


@dataclass(frozen=True)
class Claim:
    """A claimed job, with everything that running it requires."""

    job: ClaimedJob
    model: str
    kind: str
    body_at: str
    max_tokens: int
    #: Whether it ends when no client listens to it any more.
    cancel_on_disconnect: bool
    #: The attempts of earlier workers.
    trail: list[dict[str, Any]]
    #: Whether it was cancelled: then it only has to be ended.
    is_cancelled: bool = False


def claim(job_id: str, worker: str) -> Claim | None:
    """Claim a queued job for `worker`; return None if it is not queued or is to be cancelled."""
    return database.run(lambda connection: _claim(connection, job_id, worker))


_CLAIM = (
    update(Job)
    .where(
        col(Job.id) == bindparam("job"),
        col(Job.status) == Status.QUEUED.value,
        # Maintenance ends a job that was cancelled while its worker was dying. Only image jobs need
        # a worker for that: some of their images may be stored, and others in the making.
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
        col(Job.key_id),
        col(Job.key_day),
        col(Job.cancel_requested),
    )
)


class _ClaimedRow:
    account_id: int
    attempts: int
    held: int
    price: str
    model: str
    kind: str
    body_at: str
    max_tokens: int
    cancel_on_disconnect: bool
    trail: str | None
    batch_id: str | None
    key_id: int
    key_day: int | None
    cancel_requested: bool


def _claim(connection: Connection, job_id: str, worker: str) -> Claim | None:
    values = {"job": job_id, "by": worker, "at": time.time()}
    row = cast("_ClaimedRow | None", connection.execute(_CLAIM, values).one_or_none())
    if row is None:
        return None
    job = ClaimedJob(
        job_id,
        row.account_id,
        row.attempts,
        row.held,
        row.price,
        row.batch_id,
        row.key_id,
        row.key_day,
    )
    return Claim(
        job,
        row.model,
        row.kind,
        row.body_at,
        row.max_tokens,
        row.cancel_on_disconnect,
        _with_unrecorded(row.attempts - 1, orjson.loads(row.trail or "[]")),
        row.cancel_requested,
    )


def _with_unrecorded(claims: int, trail: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return `trail` with an entry for each claim whose worker died before it recorded any."""
    unknown = dict.fromkeys(("provider", "upstream_model", "at", "seconds"))
    return trail + [unknown | {"error": "unavailable"}] * max(0, claims - len(trail))


# ---- Reading a row -------------------------------------------------------------------------------


def trail_of(job: Job) -> list[dict[str, Any]] | None:
    """Return the job's calls to providers; None while they are not recorded."""
    return None if job.trail is None else list(orjson.loads(job.trail))


def source(job: Job) -> Source:
    """Return the provider that answered a job, or was called last."""
    return Source(job.provider, job.upstream_model, attempts(job))


def attempts(job: Job) -> int:
    """Return how often a provider was called for a job; while it runs, a lower bound."""
    trail = trail_of(job)
    return job.attempts if trail is None else len(trail)


def position(job: Job) -> int | None:
    """Return the position of a queued job among those of its kind, from 1; None if it is not."""
    if job.status != Status.QUEUED:
        return None
    ahead = select(func.count()).where(
        IS_QUEUED,
        col(Job.kind) == job.kind,
        # Batch lines have queues of their own.
        col(Job.batch_id).is_(None) if job.batch_id is None else col(Job.batch_id).is_not(None),
        col(Job.created) <= job.created,
    )
    # A job that was claimed since its row was read was the first.
    return max(1, int(database.scalar(ahead)))


# ---- Changes -------------------------------------------------------------------------------------


def save_trail(job: ClaimedJob, trail: list[dict[str, Any]]) -> None:
    """Record the calls to providers of a running job, unless it is no longer this worker's."""
    database.execute(_guarded_update(job).values(trail=orjson.dumps(trail).decode()))


def hand_back(job: ClaimedJob, trail: list[dict[str, Any]]) -> bool:
    """Queue a claimed job again, for another worker; return False if it is no longer ours."""
    return bool(
        database.execute(
            _guarded_update(job).values(
                status=Status.QUEUED,
                worker=None,
                enqueued_at=time.time(),
                trail=orjson.dumps(trail).decode(),
            )
        )
    )


def _guarded_update(job: ClaimedJob) -> Update:
    """Return an update of the job's row that applies only while this attempt runs it."""
    return update(Job).where(
        col(Job.id) == job.id,
        col(Job.status) == Status.IN_PROGRESS,
        col(Job.attempts) == job.attempt,
    )


def mark_left(job_id: str) -> None:
    """Record that the client that waited for the job has disconnected."""
    database.execute(
        update(Job)
        .where(col(Job.id) == job_id, col(Job.left_at).is_(None))
        .values(left_at=time.time())
    )


def mark_delivered(job_ids: list[str]) -> None:
    """Record that the answers of these jobs reached their callers."""
    at = time.time()
    delivered = col(Job.id).in_(job_ids)
    # An answer that may be fetched again is kept as long as one that was never delivered.
    short_lived = select(col(Job.id)).where(
        delivered, col(Job.asynchronous).is_(False), col(Job.is_idempotent).is_(False)
    )

    def mark_and_shorten_retention(connection: Connection) -> None:
        connection.execute(
            update(Job)
            .where(delivered, col(Job.handed_over_at).is_(None))
            .values(handed_over_at=at)
        )
        connection.execute(
            update(Result)
            .where(col(Result.job_id).in_(short_lived))
            .values(expires_at=at + DELIVERED_SECONDS)
        )

    database.run(mark_and_shorten_retention)


def mark_begun(job_ids: Collection[str]) -> None:
    """Record that these streams have published events, in case their logs are lost."""
    database.execute(
        update(Job).where(col(Job.id).in_(job_ids), col(Job.events).is_(None)).values(events=0)
    )


def request_cancel(job_id: str, status: Status = Status.IN_PROGRESS) -> bool:
    """Ask a job's worker, present or next, to end it; False if its `status` is another."""
    return bool(
        database.execute(
            update(Job)
            .where(col(Job.id) == job_id, col(Job.status) == status.value)
            .values(cancel_requested=True)
        )
    )


# ---- Finding -------------------------------------------------------------------------------------


def find(job_id: str, account_id: int | None = None) -> Job | None:
    """Return the job's row; None if there is none, or if it is another account's."""
    if not job_id.isprintable():
        return None  # PostgreSQL rejects NUL; such an id cannot exist.
    query = select(database.table(Job)).where(col(Job.id) == job_id)
    if account_id is not None:
        query = query.where(col(Job.account_id) == account_id)
    return database.one(query, Job)


def result(job_id: str) -> bytes | None:
    """Return the job's answer as JSON bytes; None if there is none, or no longer."""
    query = select(col(Result.body)).where(col(Result.job_id) == job_id)
    return cast("bytes | None", database.scalar(query))


def has_provider_calls(job_id: str) -> bool:
    """Tell whether any worker has called a provider for images of the job."""
    calls = exists().where(
        col(ProviderCall.job_id) == job_id, col(ProviderCall.status) != CallStatus.UNASKED.value
    )
    return bool(database.scalar(select(calls)))
