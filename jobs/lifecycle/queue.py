"""RQ's queues, which carry ids alone: enqueue a job, a batch line, or a job once more."""

from functools import cache

import redis
from rq import Queue
from rq.serializers import JSONSerializer

from config.redis import connection
from config.settings import settings
from jobs.kinds import function_name, queue_name
from jobs.lifecycle import bodies
from models.errors import Unavailable

#: RQ's timeout exceeds our deadline by this: it is only a safety net.
RQ_GRACE_SECONDS = 60


@cache
def queue(name: str) -> Queue:
    """Return the RQ queue called `name`. A seam: tests put another in its place."""
    return Queue(name, connection=connection(), serializer=JSONSerializer)


def enqueue(job_id: str, kind: str, body: bytes | None, has_slot: bool = True) -> None:
    """Enqueue a held job, with its `body` beside it unless that is stored elsewhere.

    Without a concurrency slot only the body is stored. On `Unavailable` the job may be in the queue
    all the same, which does no harm: it runs only while its row is `queued`.
    """
    try:
        with connection().pipeline(transaction=False) as pipeline:
            if body is not None:
                pipeline.set(bodies.redis_key(job_id), body, ex=bodies.TTL_SECONDS)
            if has_slot:
                _push(pipeline, job_id, kind)
            pipeline.execute()
    except redis.RedisError as error:
        raise Unavailable("The queue does not answer just now. Try again.") from error


def enqueue_line(job_id: str, kind: str, batch_id: str, body: bytes) -> None:
    """Enqueue a held line of a batch; raise `Unavailable` as `enqueue` does.

    Its body is in the batch's file; the copy in Redis only saves the worker from reading it there.
    """
    try:
        with connection().pipeline(transaction=False) as pipeline:
            if len(body) <= bodies.MAX_REDIS_BYTES:
                pipeline.set(bodies.redis_key(job_id), body, ex=bodies.TTL_SECONDS)
            _push(pipeline, job_id, kind, batch_id)
            pipeline.execute()
    except redis.RedisError as error:
        raise Unavailable("The queue does not answer just now. Try again.") from error


def enqueue_again(
    job_id: str, kind: str, at_front: bool = True, batch_id: str | None = None
) -> None:
    """Enqueue a job whose body is stored already; raise `redis.RedisError` on failure."""
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
        function_name(kind),
        args=(job_id,),
        job_id=job_id,
        timeout=int(settings.job_timeout_seconds) + RQ_GRACE_SECONDS,
        result_ttl=0,
        description=job_id,
        at_front=at_front,
    )
    # RQ's only method of enqueuing that adds to a pipeline of its caller's.
    queue(queue_name(kind, batch_id)).enqueue_many([data], pipeline=pipeline)
