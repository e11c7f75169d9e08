"""What was asked of whom for a job's images: nobody asks again after a worker's death."""

from collections.abc import Mapping
from typing import Any

import orjson
from sqlalchemy import Connection, Row, insert, select, update
from sqlmodel import col

import database
from billing.outcomes import ClaimedJob
from models.errors import LikeDoError
from models.job import Job, Status
from models.provider_call import CallStatus, ProviderCall
from routing.image_candidates import ImageCandidate


def of_job(job_id: str) -> list[Row[Any]]:
    """Return the calls that were made for a job, by place."""

    def work(connection: Connection) -> list[Row[Any]]:
        query = select(database.table(ProviderCall)).where(
            col(ProviderCall.job_id) == job_id, col(ProviderCall.status) != CallStatus.UNASKED.value
        )
        return list(connection.execute(query.order_by(col(ProviderCall.place))))

    return database.run(work)


def ask(job: ClaimedJob, place: int, count: int, way: ImageCandidate, key_id: str) -> bool:
    """Note that a call is about to be made. False, where the job is no longer this attempt's."""
    found = {
        "images": count,
        "status": CallStatus.ASKED.value,
        "model": way.model.id,
        "provider": way.provider.name,
        "upstream_model": way.upstream_model,
        "key_id": key_id,
        "started": None,
    }

    def work(connection: Connection) -> bool:
        if connection.execute(database.locked(_ours(job))).one_or_none() is None:
            return False
        if not connection.execute(_at(job.id, place).values(**found)).rowcount:
            connection.execute(insert(ProviderCall).values(job_id=job.id, place=place, **found))
        return True

    return database.run(work)


def _ours(job: ClaimedJob) -> Any:
    return select(col(Job.id)).where(
        col(Job.id) == job.id,
        col(Job.status) == Status.IN_PROGRESS.value,
        col(Job.attempts) == job.attempt,
    )


def take_back(job: ClaimedJob, place: int) -> None:
    """Note that the provider surely began nothing, so that anybody may ask again."""
    asked = _at(job.id, place).where(
        col(ProviderCall.status) == CallStatus.ASKED.value, col(ProviderCall.job_id).in_(_ours(job))
    )
    again = asked.values(status=CallStatus.UNASKED.value)
    database.run(lambda connection: connection.execute(again) and None)


def start(job_id: str, place: int, started: str) -> None:
    """Note that the provider works on a call, and under which id."""
    _set(job_id, place, status=CallStatus.STARTED.value, started=started)


def end(
    job_id: str, place: int, errors: Mapping[int, LikeDoError], usage: dict[str, Any] | None
) -> None:
    """Note that a call is over: of its images, those in `errors`, by place, are not stored."""
    records = {str(at): error.as_record() for at, error in errors.items()}
    told = orjson.dumps(records).decode()
    counted = orjson.dumps(usage).decode() if usage else None
    _set(job_id, place, status=CallStatus.DONE.value, errors=told, usage=counted)


def _set(job_id: str, place: int, **columns: Any) -> None:
    database.run(
        lambda connection: connection.execute(_at(job_id, place).values(**columns)) and None
    )


def _at(job_id: str, place: int) -> Any:
    return update(ProviderCall).where(
        col(ProviderCall.job_id) == job_id, col(ProviderCall.place) == place
    )
