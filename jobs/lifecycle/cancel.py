"""Ending a job before its time: one that waits at once, one that runs by telling its worker."""

import orjson
import redis
import structlog

from config.redis import connection
from jobs.kinds import KINDS
from jobs.lifecycle import finish, store
from jobs.streaming import messages
from models.errors import JobCancelled, LikeDoError, NotFound
from models.job import FINAL, Job, Status

log = structlog.get_logger()


def cancel(job_id: str, why: LikeDoError) -> str:
    """End a job with `why`, and return its status: `in_progress` where its worker was told to.

    A job that waits is ended free of charge, and so is one that `why` ends for a reason of ours; a
    `JobCancelled` charges for what a provider was asked. So the next worker ends a job of which
    images are begun, though it waits. A job that has ended stays as it is.
    Raises `NotFound`.
    """
    while True:
        row = store.find(job_id)
        if row is None:
            raise NotFound(f"There is no job '{job_id}'.")
        if row.status in FINAL:
            return str(row.status)
        if row.status == Status.QUEUED and _has_begun_images(row):
            if store.request_cancel(job_id, Status.QUEUED):
                return Status.IN_PROGRESS.value
            continue
        if _end_waiting(job_id, row.body_at, why):
            return _status_of(why)
        if row.worker:
            # First the reason, then the flag, which says nothing of one.
            _tell(row.worker, job_id, why)
        if store.request_cancel(job_id):
            return Status.IN_PROGRESS.value


def _has_begun_images(row: Job) -> bool:
    """Tell whether an earlier worker has asked for images of the job."""
    makes_images = KINDS[row.kind].makes_images
    return makes_images and row.attempts > 0 and store.has_provider_calls(row.id)


def _status_of(why: LikeDoError) -> Status:
    return Status.CANCELLED if isinstance(why, JobCancelled) else Status.FAILED


def _end_waiting(job_id: str, body_at: str, why: LikeDoError) -> bool:
    try:
        return finish.end_waiting(job_id, body_at, _status_of(why), why)
    except redis.RedisError:
        # It has ended all the same; whoever waits looks at the row within seconds.
        return True


def _tell(worker: str, job_id: str, why: LikeDoError) -> None:
    told = orjson.dumps({"job": job_id, "why": why.as_record()})
    try:
        connection().publish(messages.worker_channel(worker), told)
    except redis.RedisError as error:
        # The worker reads its row's flag with the next renewal of its lease.
        log.warning("cancel.not_told", job=job_id, reason=str(error))
