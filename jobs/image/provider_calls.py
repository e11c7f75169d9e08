"""The rows of a job's provider calls, so that no image is requested twice if a worker dies."""

from collections.abc import Mapping
from typing import Any

import orjson
from sqlalchemy import Connection, Select, Update, insert, select, update
from sqlmodel import col

import database
from billing.outcomes import ClaimedJob
from models.errors import LikeDoError
from models.job import Job, Status
from models.provider_call import CallStatus, ProviderCall
from routing.image_candidates import ImageCandidate


def of_job(job_id: str) -> list[ProviderCall]:
    """Return the calls that were made for a job, by index of their first image."""
    query = select(database.table(ProviderCall)).where(
        col(ProviderCall.job_id) == job_id, col(ProviderCall.status) != CallStatus.UNASKED.value
    )
    return database.all(query.order_by(col(ProviderCall.place)), ProviderCall)


def record_asked(
    job: ClaimedJob, first: int, count: int, candidate: ImageCandidate, key_id: str
) -> bool:
    """Record that a call is about to be made; False if the job is no longer this attempt's."""
    values = {
        "images": count,
        "status": CallStatus.ASKED.value,
        "model": candidate.model.id,
        "provider": candidate.provider.name,
        "upstream_model": candidate.upstream_model,
        "key_id": key_id,
        "started": None,
    }

    def write_if_ours(connection: Connection) -> bool:
        if database.scalar(database.locked(_ours(job)), connection) is None:
            return False
        if not database.execute(_update(job.id, first).values(**values), connection):
            inserted = insert(ProviderCall).values(job_id=job.id, place=first, **values)
            database.execute(inserted, connection)
        return True

    return database.run(write_if_ours)


def _ours(job: ClaimedJob) -> Select[str]:
    return select(col(Job.id)).where(
        col(Job.id) == job.id,
        col(Job.status) == Status.IN_PROGRESS.value,
        col(Job.attempts) == job.attempt,
    )


def record_unasked(job: ClaimedJob, first: int) -> None:
    """Record that the provider certainly began nothing, so that the call may be made again."""
    sent = _update(job.id, first).where(
        col(ProviderCall.status) == CallStatus.ASKED.value, col(ProviderCall.job_id).in_(_ours(job))
    )
    database.execute(sent.values(status=CallStatus.UNASKED.value))


def record_started(job_id: str, first: int, started: str) -> None:
    """Record that the provider works on a call, and under which id."""
    values = {"status": CallStatus.STARTED.value, "started": started}
    database.execute(_update(job_id, first).values(**values))


def record_done(
    job_id: str, first: int, errors: Mapping[int, LikeDoError], usage: dict[str, Any] | None
) -> None:
    """Record that a call is over; `errors` has, by index, those of its images that failed."""
    records = {str(index): error.as_record() for index, error in errors.items()}
    values = {
        "status": CallStatus.DONE.value,
        "errors": orjson.dumps(records).decode(),
        "usage": orjson.dumps(usage).decode() if usage else None,
    }
    database.execute(_update(job_id, first).values(**values))


def _update(job_id: str, first: int) -> Update:
    return update(ProviderCall).where(
        col(ProviderCall.job_id) == job_id, col(ProviderCall.place) == first
    )
