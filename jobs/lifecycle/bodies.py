"""Request bodies while their jobs need them: in Redis, SQL, storage or a batch's file."""

from collections.abc import Sequence
from typing import Any, cast

import orjson
import redis
import structlog
from sqlalchemy import Connection, delete, select
from sqlmodel import col

import database
import storage
from config.redis import connection
from models.batch import Batch, BatchLine
from models.errors import Unavailable
from models.job import Body, BodyAt, Status
from storage import files

log = structlog.get_logger()


def body_at(input_file_id: str, start: int, length: int) -> dict[str, Any] | None:
    """Return the request's body in the line at `start`; None where the file is gone."""
    raw = storage.backend().read(files.path_of(input_file_id), start, length)
    if raw is None or len(raw) < length:
        return None
    body: dict[str, Any] = orjson.loads(raw)["body"]
    return body


def body_of(job_id: str) -> bytes | None:
    """Return the request's body of a line that has become a job; None where it is gone."""

    def work(connection: Connection) -> Any:
        query = (
            select(col(Batch.input_file_id), col(BatchLine.start), col(BatchLine.length))
            .join(BatchLine, col(BatchLine.batch_id) == col(Batch.id))
            .where(col(BatchLine.job_id) == job_id)
        )
        return connection.execute(query).one_or_none()

    row = database.run(work)
    body = row and body_at(row.input_file_id, row.start, row.length)
    return None if body is None else orjson.dumps(body)


#: A larger body goes to storage; Redis is memory that everybody shares.
REDIS_BODY_BYTES = 64 * 1024
#: A body that nobody fetched is of no use after this.
BODY_SECONDS = 24 * 3600


def choose_location(body: bytes, outlives_redis: bool = False) -> BodyAt:
    """Say where a body of this size waits, and whether it has to outlive what Redis remembers."""
    if len(body) > REDIS_BODY_BYTES:
        return BodyAt.STORAGE
    return BodyAt.SQL if outlives_redis else BodyAt.REDIS


def body_key(job_id: str) -> str:
    return f"likedo:body:{job_id}"


def _body_file(job_id: str) -> str:
    return f"bodies/{job_id}"


def save_file(job_id: str, body: bytes) -> None:
    """Save the body of a job that is about to be held for, where it is too large for Redis."""
    storage.backend().save(_body_file(job_id), body)


def body(job_id: str, body_at: str) -> bytes | None:
    """Return a job's request body; None where it is gone."""
    if body_at == BodyAt.STORAGE:
        return storage.backend().load(_body_file(job_id))
    if body_at == BodyAt.FILE:
        return body_of(job_id)
    if body_at == BodyAt.SQL:
        query = select(col(Body.body)).where(col(Body.job_id) == job_id)
        return database.run(lambda connection: connection.execute(query).scalar_one_or_none())
    try:
        found = cast("bytes | None", connection().get(body_key(job_id)))
    except redis.RedisError as error:
        raise Unavailable("The queue does not answer just now. Try again.") from error
    return found


def fetch_body(pipeline: "redis.client.Pipeline", job_id: str) -> None:
    """Ask, with `pipeline`, for a job's body where that is in Redis."""
    pipeline.get(body_key(job_id))


def has_body(job_id: str, body_at: str) -> bool:
    if body_at == BodyAt.REDIS:
        return bool(connection().exists(body_key(job_id)))
    return body(job_id, body_at) is not None


def in_redis(job_ids: Sequence[str]) -> list[str]:
    """Return those of the jobs whose bodies are in Redis."""
    with connection().pipeline(transaction=False) as pipeline:
        for job_id in job_ids:
            pipeline.exists(body_key(job_id))
        found = pipeline.execute()
    return [job_id for job_id, there in zip(job_ids, found, strict=True) if there]


def forget_file(job_id: str, body_at: str) -> None:
    """Forget a body that was saved for a job that was not held for."""
    if body_at == BodyAt.STORAGE:
        forget_body(job_id, body_at, Status.CANCELLED)


def forget_body(job_id: str, body_at: str, status: Status) -> None:
    """Forget the body of a job that has ended, where it is not in Redis.

    That of a failed asynchronous job stays in SQL: an operator can have it tried again.
    """
    if status == Status.FAILED and body_at == BodyAt.SQL:
        return
    try:
        if body_at == BodyAt.STORAGE:
            storage.backend().delete(_body_file(job_id))
        elif body_at == BodyAt.SQL:
            gone = delete(Body).where(col(Body.job_id) == job_id)
            database.run(lambda connection: connection.execute(gone) and None)
    except Unavailable as error:
        # The job has ended all the same; a forgotten body harms nobody.
        log.warning("body.not_deleted", job=job_id, reason=error.message)
