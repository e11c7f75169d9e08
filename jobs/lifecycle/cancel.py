"""Cancelling a job: a queued one ends at once, a running one by a message to its worker."""

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


def cancel(job_id: str, reason: LikeDoError) -> str:
    """End a job with `reason` and return its status; `in_progress` if its worker is to end it.

    A queued job is ended free of charge, and so is any job if the `reason` is a failure of ours. A
    `JobCancelled` charges for provider calls; so a queued job with images in progress is left to
    the next worker to end. A job that has ended stays as it is. Raises `NotFound`.
    """
    while True:
        job = store.find(job_id)
        if job is None:
            raise NotFound(f"There is no job '{job_id}'.")
        if job.status in FINAL:
            return job.status
        if job.status == Status.QUEUED and _has_begun_images(job):
            if store.request_cancel(job_id, Status.QUEUED):
                return Status.IN_PROGRESS.value
            continue
        if _end_unclaimed(job, reason):
            return _status_for(reason)
        if job.worker:
            # Sent before the flag is set, since the flag carries no reason.
            _tell_worker(job.worker, job_id, reason)
        if store.request_cancel(job_id):
            return Status.IN_PROGRESS.value


def _has_begun_images(job: Job) -> bool:
    """Tell whether an earlier worker has called a provider for images of the job."""
    return KINDS[job.kind].makes_images and job.attempts > 0 and store.has_provider_calls(job.id)


def _status_for(reason: LikeDoError) -> Status:
    return Status.CANCELLED if isinstance(reason, JobCancelled) else Status.FAILED


def _end_unclaimed(job: Job, reason: LikeDoError) -> bool:
    try:
        return finish.end_unclaimed(job.id, job.body_at, _status_for(reason), reason)
    except redis.RedisError:
        # It has ended all the same; callers that wait for it check its row within seconds.
        return True


def _tell_worker(worker: str, job_id: str, reason: LikeDoError) -> None:
    message = orjson.dumps({"job": job_id, "why": reason.as_record()})
    try:
        connection().publish(messages.worker_channel(worker), message)
    except redis.RedisError as error:
        # The worker reads the flag when it next renews its lease.
        log.warning("cancel.worker_not_notified", job=job_id, reason=str(error))
