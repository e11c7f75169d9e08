"""RQ's queues, which carry ids alone: enqueue a job, a batch line, or a lost job again."""

from functools import cache

import redis
import structlog
from rq import Queue
from rq.serializers import JSONSerializer

from config.redis import connection
from config.settings import settings
from jobs.kinds import KINDS, queue_of
from jobs.lifecycle import bodies
from models.errors import Unavailable

log = structlog.get_logger()
#: RQ's own idea of when a job is overdue is only a net below ours.
RQ_GRACE_SECONDS = 60


@cache
def queue(name: str) -> Queue:
    """Return the RQ queue of that name. A seam: tests put another in its place."""
    return Queue(name, connection=connection(), serializer=JSONSerializer)


def enqueue(job_id: str, kind: str, body: bytes | None, has_slot: bool = True) -> None:
    """Put a held job in the queue, with its `body` beside it unless that waits elsewhere.

    Without a place to run, only the body is put there. Raises `Unavailable`, and then the job may
    be in the queue all the same. That does no harm: it runs only while its row says `queued`.
    """
    try:
        with connection().pipeline(transaction=False) as pipeline:
            if body is not None:
                pipeline.set(bodies.body_key(job_id), body, ex=bodies.BODY_SECONDS)
            if has_slot:
                _push(pipeline, job_id, kind)
            pipeline.execute()
    except redis.RedisError as error:
        raise Unavailable("The queue does not answer just now. Try again.") from error


def enqueue_line(job_id: str, kind: str, batch_id: str, body: bytes) -> None:
    """Put a held line of a batch in its queue; raise `Unavailable` as `enqueue` does.

    Its body is in the batch's file: a copy in Redis only spares the worker the way there.
    """
    try:
        with connection().pipeline(transaction=False) as pipeline:
            if len(body) <= bodies.REDIS_BODY_BYTES:
                pipeline.set(bodies.body_key(job_id), body, ex=bodies.BODY_SECONDS)
            _push(pipeline, job_id, kind, batch_id)
            pipeline.execute()
    except redis.RedisError as error:
        raise Unavailable("The queue does not answer just now. Try again.") from error


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
        f"jobs.{KINDS[kind].module}.run",
        args=(job_id,),
        job_id=job_id,
        timeout=int(settings.job_timeout_seconds) + RQ_GRACE_SECONDS,
        result_ttl=0,
        description=job_id,
        at_front=at_front,
    )
    # Of RQ's ways to enqueue, the one that adds to a pipeline that others have begun.
    queue(queue_of(kind, batch_id)).enqueue_many([data], pipeline=pipeline)
