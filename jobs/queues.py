"""How work gets to the workers: put in the queue by id, its body beside it."""

from collections.abc import Sequence
from functools import cache
from typing import cast

import redis
import structlog
from rq import Queue
from rq.serializers import JSONSerializer
from sqlalchemy import delete, select
from sqlmodel import col

import storage
from billing import ledger
from config.connections import connection
from config.settings import settings
from jobs import lines, messages, stream_log
from jobs.messages import Ended
from models import database, errors
from models.job import Body, BodyAt, Status

log = structlog.get_logger()

#: A larger body goes to storage; Redis is memory that everybody shares.
REDIS_BODY_BYTES = 64 * 1024
#: A body that nobody fetched is of no use after this.
BODY_SECONDS = 24 * 3600
#: What the name of a queue of batches' lines ends with.
LINES = "-lines"
#: Jobs of a kind are run by the module of its name, but for these.
_RUN_BY = {"batch": "image"}
#: RQ's own idea of when a job is overdue is only a net below ours.
RQ_GRACE_SECONDS = 60


@cache
def queue(name: str) -> Queue:
    """Return the RQ queue of that name. A seam: tests put another in its place."""
    return Queue(name, connection=connection(), serializer=JSONSerializer)


def name_of(kind: str, batch_id: str | None) -> str:
    """Return the name of the queue of jobs of a `kind`, or of those of them that are lines."""
    return kind if batch_id is None else name_of_lines(kind)


def name_of_lines(kind: str) -> str:
    return f"{kind}{LINES}"


def kind_of(name: str) -> str:
    """Return the kind of the jobs in the queue of that name."""
    return name.removesuffix(LINES)


def runs_as(kind: str) -> str:
    """Return the kind whose module runs the jobs of a `kind`, and among which they are counted."""
    return _RUN_BY.get(kind, kind)


def body_place(body: bytes, outlives_redis: bool = False) -> BodyAt:
    """Say where a body of this size waits, and whether it has to outlive what Redis remembers."""
    if len(body) > REDIS_BODY_BYTES:
        return BodyAt.STORAGE
    return BodyAt.SQL if outlives_redis else BodyAt.REDIS


def _body_key(job_id: str) -> str:
    return f"likedo:body:{job_id}"


def _body_file(job_id: str) -> str:
    return f"bodies/{job_id}"


def enqueue(job_id: str, kind: str, body: bytes | None, has_place: bool = True) -> None:
    """Put a held job in the queue, with its `body` beside it unless that waits elsewhere.

    Without a place to run, only the body is put there. Raises `Unavailable`, and then the job may
    be in the queue all the same. That does no harm: it runs only while its row says `queued`.
    """
    try:
        with connection().pipeline(transaction=False) as pipeline:
            if body is not None:
                pipeline.set(_body_key(job_id), body, ex=BODY_SECONDS)
            if has_place:
                _push(pipeline, job_id, kind)
            pipeline.execute()
    except redis.RedisError as error:
        raise errors.Unavailable("The queue does not answer just now. Try again.") from error


def save_file(job_id: str, body: bytes) -> None:
    """Save the body of a job that is about to be held for, where it is too large for Redis."""
    storage.backend().save(_body_file(job_id), body)


def enqueue_line(job_id: str, kind: str, batch_id: str, body: bytes) -> None:
    """Put a held line of a batch in its queue; raise `Unavailable` as `enqueue` does.

    Its body is in the batch's file: a copy in Redis only spares the worker the way there.
    """
    try:
        with connection().pipeline(transaction=False) as pipeline:
            if len(body) <= REDIS_BODY_BYTES:
                pipeline.set(_body_key(job_id), body, ex=BODY_SECONDS)
            _push(pipeline, job_id, kind, batch_id)
            pipeline.execute()
    except redis.RedisError as error:
        raise errors.Unavailable("The queue does not answer just now. Try again.") from error


def enqueue_again(
    job_id: str, kind: str, at_front: bool = True, batch_id: str | None = None
) -> None:
    """Put a job that waits for a worker in the queue once more; its body is still there."""
    with connection().pipeline(transaction=False) as pipeline:
        _push(pipeline, job_id, kind, batch_id, at_front)
        pipeline.execute()


def _push(
    pipeline: "redis.client.Pipeline",
    job_id: str,
    kind: str,
    batch_id: str | None = None,
    at_front: bool = False,
) -> None:
    data = Queue.prepare_data(
        f"jobs.{runs_as(kind)}.run",
        args=(job_id,),
        job_id=job_id,
        timeout=int(settings.job_timeout_seconds) + RQ_GRACE_SECONDS,
        result_ttl=0,
        description=job_id,
        at_front=at_front,
    )
    # Of RQ's ways to enqueue, the one that adds to a pipeline that others have begun.
    queue(name_of(kind, batch_id)).enqueue_many([data], pipeline=pipeline)


def body(job_id: str, body_at: str) -> bytes | None:
    """Return a job's request body; None where it is gone."""
    if body_at == BodyAt.STORAGE:
        return storage.backend().load(_body_file(job_id))
    if body_at == BodyAt.FILE:
        return lines.body_of(job_id)
    if body_at == BodyAt.SQL:
        query = select(col(Body.body)).where(col(Body.job_id) == job_id)
        return database.run(lambda connection: connection.execute(query).scalar_one_or_none())
    try:
        found = cast("bytes | None", connection().get(_body_key(job_id)))
    except redis.RedisError as error:
        raise errors.Unavailable("The queue does not answer just now. Try again.") from error
    return found


def fetch_body(pipeline: "redis.client.Pipeline", job_id: str) -> None:
    """Ask, with `pipeline`, for a job's body where that is in Redis."""
    pipeline.get(_body_key(job_id))


def has_body(job_id: str, body_at: str) -> bool:
    if body_at == BodyAt.REDIS:
        return bool(connection().exists(_body_key(job_id)))
    return body(job_id, body_at) is not None


def in_redis(job_ids: Sequence[str]) -> list[str]:
    """Return those of the jobs whose bodies are in Redis."""
    with connection().pipeline(transaction=False) as pipeline:
        for job_id in job_ids:
            pipeline.exists(_body_key(job_id))
        found = pipeline.execute()
    return [job_id for job_id, there in zip(job_ids, found, strict=True) if there]


def announce(pipeline: "redis.client.Pipeline", job_id: str, ended: Ended) -> None:
    """Say that a job has ended, and forget what Redis has for running it, with `pipeline`."""
    if ended.whole:
        stream_log.finish(pipeline, job_id, ended.whole)
    pipeline.publish(messages.channel(job_id), ended.encode())
    pipeline.delete(_body_key(job_id))


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
    except errors.Unavailable as error:
        # The job has ended all the same; a forgotten body harms nobody.
        log.warning("body.not_deleted", job=job_id, reason=error.message)


def end_waiting(
    job_id: str, body_at: str, status: Status, error: errors.LikeDoError, events: int | None = None
) -> bool:
    """End, free of charge, a job that no worker has, and tell who waits for it.

    `events`: the number of the last that an earlier attempt said into its stream.
    False where a worker has it, or it has ended. Raises `redis.RedisError` after it has ended,
    where nobody could be told.
    """
    if not ledger.end_unclaimed(job_id, status, error, events):
        return False
    log.warning("job.ended_unclaimed", job=job_id, status=status.value, code=error.code)
    forget_body(job_id, body_at, status)
    with connection().pipeline(transaction=False) as pipeline:
        announce(pipeline, job_id, Ended(status, charged=0, error=error.as_record(), events=events))
        pipeline.execute()
    return True
