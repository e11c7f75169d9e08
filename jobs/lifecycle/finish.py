"""Finishing a job that no worker has, and announcing the end of any job."""

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
    """Publish that a job has ended and delete what Redis holds for running it, with `pipeline`."""
    if ended.whole:
        stream_log.finish(pipeline, job_id, ended.whole)
    pipeline.publish(messages.channel(job_id), ended.encode())
    pipeline.delete(bodies.redis_key(job_id))


def end_unclaimed(
    job_id: str, body_at: str, status: Status, error: LikeDoError, events: int | None = None
) -> bool:
    """End a job that no worker has, free of charge, and announce it.

    `events`: the number of the last event that an earlier attempt published. Returns False if a
    worker has the job, or if it has ended. Raises `redis.RedisError` if the job has ended but that
    could not be announced.
    """
    if not settlement.end_unclaimed(job_id, status, error, events):
        return False
    log.warning("job.ended_unclaimed", job=job_id, status=status.value, code=error.code)
    bodies.forget(job_id, body_at, status)
    with connection().pipeline(transaction=False) as pipeline:
        announce(pipeline, job_id, Ended(status, charged=0, error=error.as_record(), events=events))
        pipeline.execute()
    return True
