"""Request bodies while their jobs need them: in Redis, SQL, storage or a batch's input file."""

import time
from collections.abc import Iterator, Sequence
from typing import Any, cast

import orjson
import redis
import structlog
from sqlalchemy import delete, insert, select, tuple_
from sqlmodel import col

import database
import storage
from config.redis import connection
from models import bounded_json
from models.batch import Batch, BatchLine
from models.errors import InvalidRequest, Unavailable
from models.job import FINAL, Body, BodyAt, Job, Status, StoredBody
from storage import files

log = structlog.get_logger()

#: Larger bodies are stored in storage, since all jobs share the memory of Redis.
MAX_REDIS_BYTES = 64 * 1024
#: A body in Redis expires after this if no worker has fetched it.
TTL_SECONDS = 24 * 3600
#: A body in storage without an unfinished job is deleted after this: its process died meanwhile.
ORPHANED_SECONDS = 3600
#: Rows of such bodies that are read at a time.
PAGE_SIZE = 200


def redis_key(job_id: str) -> str:
    return f"likedo:body:{job_id}"


def _path(job_id: str) -> str:
    return f"bodies/{job_id}"


def choose_location(body: bytes, outlives_redis: bool = False) -> BodyAt:
    """Return where to store a body of this size, which may have to outlive Redis's memory."""
    if len(body) > MAX_REDIS_BYTES:
        return BodyAt.STORAGE
    return BodyAt.SQL if outlives_redis else BodyAt.REDIS


def save_to_storage(job_id: str, body: bytes) -> None:
    """Save a body that is too large for Redis, before its job is held for."""
    row = insert(StoredBody).values(job_id=job_id, created=time.time())
    database.run(lambda connection: connection.execute(row) and None, repeatable=False)
    storage.backend().save(_path(job_id), body)


# ---- Reading -------------------------------------------------------------------------------------


def load(job_id: str, body_at: str) -> bytes | None:
    """Return a job's request body; None if it is gone. Raises `Unavailable`."""
    if body_at == BodyAt.STORAGE:
        return storage.backend().load(_path(job_id))
    if body_at == BodyAt.FILE:
        return _load_of_line(job_id)
    if body_at == BodyAt.SQL:
        query = select(col(Body.body)).where(col(Body.job_id) == job_id)
        return cast("bytes | None", database.scalar(query))
    try:
        return cast("bytes | None", connection().get(redis_key(job_id)))
    except redis.RedisError as error:
        raise Unavailable("The queue does not answer just now. Try again.") from error


def decoded(body: bytes) -> dict[str, Any]:
    """Return the JSON object in a stored request body; raise `InvalidRequest` if it is too complex.

    It was checked when it was accepted, which may have been by another version.
    """
    return _decoded(body, bounded_json.OF_REQUEST)


def _decoded(raw: bytes, bounds: bounded_json.Bounds) -> dict[str, Any]:
    try:
        decoded: dict[str, Any] = bounded_json.loads(raw, bounds)
    except bounded_json.TooComplex as error:
        raise InvalidRequest(f"The request is too complex: {error}.") from None
    return decoded


def load_line(input_file_id: str, start: int, length: int) -> dict[str, Any] | None:
    """Return the request body in a batch line of `length` bytes; None if the file is gone.

    Raises `InvalidRequest` if it is too complex.
    """
    line = storage.backend().read(files.path_of(input_file_id), start, length)
    if line is None or len(line) < length:
        return None
    body: dict[str, Any] = _decoded(line, bounded_json.OF_LINE)["body"]
    return body


class _LineLocation:
    input_file_id: str
    start: int
    length: int


def _load_of_line(job_id: str) -> bytes | None:
    """Return the request body of a job that is a batch line; None if it is gone."""
    query = (
        select(col(Batch.input_file_id), col(BatchLine.start), col(BatchLine.length))
        .join(BatchLine, col(BatchLine.batch_id) == col(Batch.id))
        .where(col(BatchLine.job_id) == job_id)
    )
    line = database.one(query, _LineLocation)
    body = line and load_line(line.input_file_id, line.start, line.length)
    return None if body is None else orjson.dumps(body)


def fetch(pipeline: "redis.client.Pipeline", job_id: str) -> None:
    """Add to `pipeline` the command that returns a job's body if it is in Redis."""
    pipeline.get(redis_key(job_id))


def exists(job_id: str, body_at: str) -> bool:
    if body_at == BodyAt.REDIS:
        return bool(connection().exists(redis_key(job_id)))
    return load(job_id, body_at) is not None


def in_redis(job_ids: Sequence[str]) -> list[str]:
    """Return those of the jobs whose bodies are in Redis."""
    with connection().pipeline(transaction=False) as pipeline:
        for job_id in job_ids:
            pipeline.exists(redis_key(job_id))
        replies = pipeline.execute()
    return [job_id for job_id, is_there in zip(job_ids, replies, strict=True) if is_there]


# ---- Forgetting ----------------------------------------------------------------------------------


def forget_unheld(job_id: str, body_at: str) -> None:
    """Delete a body that was saved for a job for which credits could not be held."""
    if body_at == BodyAt.STORAGE:
        forget(job_id, body_at, Status.CANCELLED)


def forget(job_id: str, body_at: str, status: Status) -> None:
    """Delete the body of a job that has ended, unless it is in Redis.

    That of a failed asynchronous job stays in SQL, so that an operator can retry it.
    """
    if status == Status.FAILED and body_at == BodyAt.SQL:
        return
    try:
        if body_at == BodyAt.STORAGE:
            _delete_from_storage(job_id)
        elif body_at == BodyAt.SQL:
            database.execute(delete(Body).where(col(Body.job_id) == job_id))
    except Unavailable as error:
        # The job has ended all the same, and maintenance deletes what is left over.
        log.warning("body.not_deleted", job=job_id, reason=error.message)


def _delete_from_storage(job_id: str) -> None:
    storage.backend().delete(_path(job_id))
    database.execute(delete(StoredBody).where(col(StoredBody.job_id) == job_id))


def forget_orphaned() -> int:
    """Delete the bodies in storage that no unfinished job needs; return how many.

    A process that dies before the hold, or just after its job has ended, leaves them behind.
    """
    count = 0
    for job_id in _orphaned():
        _delete_from_storage(job_id)
        count += 1
    return count


class _StoredBody:
    job_id: str
    created: float
    status: str | None


def _orphaned() -> Iterator[str]:
    last = (0.0, "")
    position = (col(StoredBody.created), col(StoredBody.job_id))
    query = (
        select(col(StoredBody.job_id), col(StoredBody.created), col(Job.status))
        .outerjoin(Job, col(Job.id) == col(StoredBody.job_id))
        .where(col(StoredBody.created) < time.time() - ORPHANED_SECONDS)
        .order_by(*position)
        .limit(PAGE_SIZE)
    )
    while page := database.all(query.where(tuple_(*position) > last), _StoredBody):
        yield from (row.job_id for row in page if row.status is None or row.status in FINAL)
        last = (page[-1].created, page[-1].job_id)
