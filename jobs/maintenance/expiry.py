"""What has expired: abandoned and overdue jobs, old results, old images."""

import time
from typing import Any

import gevent
import structlog
from sqlalchemy import Connection, Row, delete, or_, select
from sqlmodel import col

import database
from billing import holds
from config.redis import connection
from config.settings import settings
from jobs.lifecycle import finish
from jobs.maintenance import recovery
from jobs.streaming import messages
from models.errors import JobCancelled, Unavailable
from models.job import IS_QUEUED, Body, Idempotency, Job, Result, Status
from storage import files, media

log = structlog.get_logger()


#: A queued job that nobody waits for any more is cancelled after this.
LEFT_SECONDS = 60
#: The request of a job that failed is kept for so long, for it to be tried again.
KEPT_BODY_SECONDS = 24 * 3600

#: Images whose time is up are looked for this often; a storage may take its time for them.
MEDIA_SECONDS = 60
_media_begun_at = 0.0
_forgetting_media: gevent.Greenlet | None = None
NOBODY_CAME = "No worker was free for this call in all the time that it may take. Try again."


def cancel_left_jobs() -> None:
    """Cancel, free of charge, what still waits for a worker when its client is long gone."""

    def find(connection: Connection) -> list[Row[Any]]:
        query = select(col(Job.id), col(Job.body_at)).where(
            IS_QUEUED,
            col(Job.left_at) < time.time() - LEFT_SECONDS,
            # One that was begun goes on without its client, and so does a stream that is to finish.
            col(Job.attempts) == 0,
            col(Job.asynchronous).is_(False),
            or_(col(Job.stream).is_(False), col(Job.cancel_on_disconnect).is_(True)),
        )
        return list(connection.execute(query.limit(recovery.PAGE_SIZE)))

    for row in _without_listeners(database.run(find)):
        gone = JobCancelled("The client left while the call was still queued.")
        finish.end_waiting(row.id, row.body_at, Status.CANCELLED, gone)


def end_overdue_waits() -> None:
    """End, free of charge, calls that no worker took on in the time that they may take in all.

    No retry of theirs could join them any more.
    """

    def find(connection: Connection) -> list[Row[Any]]:
        query = select(col(Job.id), col(Job.body_at)).where(
            IS_QUEUED,
            col(Job.created) < time.time() - settings.job_timeout_seconds,
            col(Job.attempts) == 0,
            # Nobody waits at a connection for the others.
            col(Job.asynchronous).is_(False),
            col(Job.batch_id).is_(None),
        )
        return list(connection.execute(query.limit(recovery.PAGE_SIZE)))

    for row in database.run(find):
        finish.end_waiting(row.id, row.body_at, Status.FAILED, Unavailable(NOBODY_CAME))


def _without_listeners(rows: list[Row[Any]]) -> list[Row[Any]]:
    """Return the jobs that nobody listens to: who left may have been one of several."""
    if not rows:
        return []
    counts = connection().pubsub_numsub(*[messages.channel(row.id) for row in rows])
    return [row for row, (_, count) in zip(rows, counts, strict=True) if not count]


def forget_old_results() -> None:
    """Drop the answers whose time is up. The records of their jobs stay."""

    def drop(connection: Connection) -> None:
        old = (
            select(col(Result.job_id))
            .where(col(Result.expires_at) < time.time())
            .limit(recovery.PAGE_SIZE)
        )
        connection.execute(delete(Result).where(col(Result.job_id).in_(old)))
        ended = select(col(Job.id)).where(
            col(Job.id).in_(select(col(Body.job_id))),
            col(Job.finished_at) < time.time() - KEPT_BODY_SECONDS,
        )
        connection.execute(
            delete(Body).where(col(Body.job_id).in_(ended.limit(recovery.PAGE_SIZE)))
        )
        before = time.time() - holds.IDEMPOTENCY_SECONDS
        connection.execute(delete(Idempotency).where(col(Idempotency.created) < before))

    database.run(drop)


def forget_media_now_and_then() -> None:
    """Begin to delete what is kept and whose time is up, beside this pass: others wait for that."""
    global _media_begun_at, _forgetting_media
    if time.monotonic() - _media_begun_at < MEDIA_SECONDS:
        return
    if _forgetting_media is None or _forgetting_media.ready():
        _media_begun_at = time.monotonic()
        _forgetting_media = gevent.spawn(_forget_media)


def _forget_media() -> None:
    try:
        if count := media.forget_expired():
            log.info("upkeep.media_forgotten", images=count)
        if count := files.forget_expired():
            log.info("upkeep.files_forgotten", files=count)
    except Unavailable as error:
        log.warning("upkeep.media_waits", reason=error.message)
    except Exception:  # A greenlet's outermost door: the next one may do better.
        log.exception("upkeep.media_broke")
