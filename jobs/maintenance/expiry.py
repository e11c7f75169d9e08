"""Expiry: abandoned and overdue jobs, files and images past their time."""

import time

import gevent
import structlog
from sqlalchemy import or_, select
from sqlmodel import col

import database
from config.redis import connection
from config.settings import settings
from jobs.lifecycle import bodies, finish
from jobs.maintenance import recovery
from jobs.streaming import messages
from models.errors import JobCancelled, Unavailable
from models.job import IS_QUEUED, Job, Status
from storage import files, media

log = structlog.get_logger()

#: A queued job without a client is cancelled after this.
ABANDONED_SECONDS = 60
#: Expired files and images are deleted this often, since storage may be slow.
STORAGE_CLEANUP_SECONDS = 60

NO_WORKER = "No worker was free for this call in all the time that it may take. Try again."

_cleanup_started_at = 0.0
_storage_cleanup: gevent.Greenlet | None = None


class _QueuedJob:
    id: str
    body_at: str


_QUEUED_JOBS = select(col(Job.id), col(Job.body_at)).where(IS_QUEUED)


def cancel_abandoned_jobs() -> None:
    """Cancel, free of charge, jobs still queued long after their clients went away."""
    left = _QUEUED_JOBS.where(
        col(Job.left_at) < time.time() - ABANDONED_SECONDS,
        # A job that was begun goes on without its client, and so does a stream set to finish.
        col(Job.attempts) == 0,
        col(Job.asynchronous).is_(False),
        or_(col(Job.stream).is_(False), col(Job.cancel_on_disconnect).is_(True)),
    )
    for job in _without_listeners(database.all(left.limit(recovery.PAGE_SIZE), _QueuedJob)):
        gone = JobCancelled("The client left while the call was still queued.")
        finish.end_unclaimed(job.id, job.body_at, Status.CANCELLED, gone)


def end_overdue_waits() -> None:
    """End, free of charge, calls that no worker claimed within `JOB_TIMEOUT_SECONDS`.

    No retry can join them any more.
    """
    overdue = _QUEUED_JOBS.where(
        col(Job.created) < time.time() - settings.job_timeout_seconds,
        col(Job.attempts) == 0,
        # Only a synchronous call has a client that waits.
        col(Job.asynchronous).is_(False),
        col(Job.batch_id).is_(None),
    )
    for job in database.all(overdue.limit(recovery.PAGE_SIZE), _QueuedJob):
        finish.end_unclaimed(job.id, job.body_at, Status.FAILED, Unavailable(NO_WORKER))


def _without_listeners(jobs: list[_QueuedJob]) -> list[_QueuedJob]:
    """Return the jobs without any listener: the client that left may have been one of several."""
    if not jobs:
        return []
    counts = connection().pubsub_numsub(*[messages.channel(job.id) for job in jobs])
    return [job for job, (_, count) in zip(jobs, counts, strict=True) if not count]


def start_storage_cleanup() -> None:
    """Delete expired files and images, if due, in a greenlet: a pass must not wait for it."""
    global _cleanup_started_at, _storage_cleanup
    if time.monotonic() - _cleanup_started_at < STORAGE_CLEANUP_SECONDS:
        return
    if _storage_cleanup is None or _storage_cleanup.ready():
        _cleanup_started_at = time.monotonic()
        _storage_cleanup = gevent.spawn(_clean_up_storage)


def _clean_up_storage() -> None:
    try:
        if count := media.forget_expired():
            log.info("maintenance.media_deleted", images=count)
        if count := files.forget_expired():
            log.info("maintenance.files_deleted", files=count)
        if count := bodies.forget_orphaned():
            log.info("maintenance.bodies_deleted", bodies=count)
    except Unavailable as error:
        log.warning("maintenance.storage_delayed", reason=error.message)
    except Exception:  # A greenlet's outermost handler: the next one may succeed.
        log.exception("maintenance.storage_failed")
