"""Ending a job that no worker has, and announcing an end."""

import redis
import structlog

from billing import settlement
from config.redis import connection
from jobs.lifecycle import bodies
from jobs.streaming import log as stream_log
from jobs.streaming import messages
from jobs.streaming.messages import Ended
from models.errors import LikeDoError
from models.job import Status

log = structlog.get_logger()


def announce(pipeline: "redis.client.Pipeline", job_id: str, ended: Ended) -> None:
    """Say that a job has ended, and forget what Redis has for running it, with `pipeline`."""
    if ended.whole:
        stream_log.finish(pipeline, job_id, ended.whole)
    pipeline.publish(messages.channel(job_id), ended.encode())
    pipeline.delete(bodies.body_key(job_id))


def end_waiting(
    job_id: str, body_at: str, status: Status, error: LikeDoError, events: int | None = None
) -> bool:
    """End, free of charge, a job that no worker has, and tell who waits for it.

    `events`: the number of the last that an earlier attempt said into its stream.
    False where a worker has it, or it has ended. Raises `redis.RedisError` after it has ended,
    where nobody could be told.
    """
    if not settlement.end_unclaimed(job_id, status, error, events):
        return False
    log.warning("job.ended_unclaimed", job=job_id, status=status.value, code=error.code)
    bodies.forget_body(job_id, body_at, status)
    with connection().pipeline(transaction=False) as pipeline:
        announce(pipeline, job_id, Ended(status, charged=0, error=error.as_record(), events=events))
        pipeline.execute()
    return True
