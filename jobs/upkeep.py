"""What nobody else would notice: dead workers' jobs, lost rows, answers nobody needs any more.

Every pass is safe to run twice and by many at once; a lock in Redis only spares the work.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import gevent
import redis
import structlog
from rq.executions import Execution, ExecutionRegistry
from rq.worker import BaseWorker
from sqlalchemy import ColumnElement, Connection, Row, and_, delete, or_, select, tuple_, update
from sqlmodel import col

from billing import ledger
from config.connections import connection
from config.settings import settings
from jobs import files, leases, media, messages, places, queues, stream_log
from jobs.channel import Listener
from jobs.streams import BROKEN_OFF
from models import database, errors
from models.database import now
from models.job import IMAGES, IS_IN_PROGRESS, IS_QUEUED, Body, Idempotency, Job, Result, Status
from models.worker import LEASE_SECONDS, Lease

log = structlog.get_logger()

PASS_SECONDS = 2
#: A job that a dead worker had is tried again until it has been begun this often.
MOST_ATTEMPTS = 3
#: One that goes on where the last worker was, for a day if need be, may have had many.
MOST_ATTEMPTS_OF_BATCH = 100
#: A batch has a day for its lines: more workers may die of other reasons meanwhile.
MOST_LINE_ATTEMPTS = 10
#: A row queued for longer than this should be known to Redis.
LOST_AFTER_SECONDS = 5
#: A queued job that nobody waits for any more is cancelled after this.
LEFT_SECONDS = 60
#: The request of a job that failed is kept for so long, for it to be tried again.
KEPT_BODY_SECONDS = 24 * 3600
#: Rows that one pass takes on, or looks at in one transaction.
BATCH = 500
#: Where the bodies of so many rows could not be asked for, the others there wait for the next pass.
MOST_SILENCES = 3

#: Images whose time is up are looked for this often; a storage may take its time for them.
MEDIA_SECONDS = 60

_swept_at = 0.0
_media_begun_at = 0.0
_forgetting_media: gevent.Greenlet | None = None
_LOCK = "likedo:upkeep"
CANCELLED = errors.JobCancelled("The job was cancelled.")
NOBODY_CAME = "No worker was free for this call in all the time that it may take. Try again."
LOST = "The worker that ran this call is gone, and no other could take it over. Try again."


def keep_up(worker: BaseWorker) -> None:
    """Pass after pass, for as long as the worker lives."""

    def work() -> None:
        sweep()
        if worker.should_run_maintenance_tasks:
            worker.run_maintenance_tasks()

    _for_ever(work)


def watch_over(listener: Listener) -> None:
    """See to it that dead workers are noticed while anybody waits in this process."""
    _for_ever(lambda: sweep() if listener.waiters else None)


def _for_ever(work: Callable[[], None]) -> None:
    while True:
        gevent.sleep(PASS_SECONDS)
        try:
            work()
        except (errors.Unavailable, redis.RedisError) as error:
            log.warning("upkeep.waits", reason=str(error))
        except Exception:  # A greenlet's outermost door: the next pass may do better.
            log.exception("upkeep.broke")


def sweep() -> None:
    """Make one pass, unless this process or another has just made one."""
    global _swept_at
    if time.monotonic() - _swept_at < PASS_SECONDS - 0.1:
        return
    _swept_at = time.monotonic()
    if not connection().set(_LOCK, "1", nx=True, px=int(PASS_SECONDS * 1000) - 100):
        return
    end_dead_leases()
    find_lost_rows()
    cancel_left_jobs()
    end_overdue_waits()
    places.let_in_all()
    forget_old_results()
    forget_media_now_and_then()


def end_dead_leases() -> None:
    """Take the jobs of workers whose lease is over, and put them where lost rows are found."""
    dead = database.run(_end_leases)
    if dead:
        log.error("upkeep.workers_dead", workers=dead)
    for name in dead:
        if worker := BaseWorker.find_by_key(f"rq:worker:{name}", connection()):
            worker.register_death()


def _end_leases(connection: Connection) -> list[str]:
    dead = list(
        connection.execute(
            select(col(Lease.name)).where(now() - col(Lease.last_seen) >= LEASE_SECONDS)
        ).scalars()
    )
    if dead:
        connection.execute(delete(Lease).where(col(Lease.name).in_(dead)))
    connection.execute(_TAKE_FROM_THE_DEAD)
    return dead


#: Also what was claimed under a lease that had been ended just before.
_TAKE_FROM_THE_DEAD = (
    update(Job)
    .where(
        IS_IN_PROGRESS,
        col(Job.worker).not_in(select(col(Lease.name))),
    )
    # Queued since ever: the search for lost rows, next in this pass, takes them on.
    .values(status=Status.QUEUED.value, worker=None, enqueued_at=0)
)


def find_lost_rows() -> None:
    """Queue again, or end free of charge, what SQL says is queued and Redis does not know.

    All that is queued is looked at, since what waits in its queue may be any number of rows; so
    many of the lost are taken on.
    """
    known = cache(lambda name: frozenset(queues.queue(name).get_job_ids()))
    workers = cache(lambda: len(leases.live()))
    found, silences = 0, Counter[str]()
    for row in _long_queued():
        if row.id in known(_queue_of(row)) or silences[row.body_at] == MOST_SILENCES:
            continue
        try:
            found += _find(row, workers())
        except errors.Unavailable as error:
            # Its storage does not answer; that is no reason to leave the others waiting.
            silences[row.body_at] += 1
            log.warning("upkeep.row_waits", job=row.id, reason=error.message)
        if found == BATCH:
            return


def _queue_of(row: Row[Any]) -> str:
    return queues.name_of(row.kind, row.batch_id)


def _find(row: Row[Any], workers: int) -> bool:
    """Bring a lost row on; False where it goes on waiting."""
    said = stream_log.last_number(row.id) if row.stream else None
    # What the log has is exact; where Redis was emptied, the row knows at least that it had begun.
    events = row.events if said is None else said
    if row.asynchronous and not workers and not row.cancel_requested and events is None:
        return False  # Nobody waits at a connection for it: it runs when there is a worker again.
    _tidy_rq(row.id, _queue_of(row))
    if row.cancel_requested and row.kind in IMAGES and row.attempts < MOST_ATTEMPTS_OF_BATCH:
        # Some may be stored, and others in the making: a worker ends it, when there is one.
        if not workers:
            return False
        queues.enqueue_again(row.id, row.kind, batch_id=row.batch_id)
    elif row.cancel_requested:
        queues.end_waiting(row.id, row.body_at, Status.CANCELLED, CANCELLED, events)
    elif events is not None:
        broken = errors.Unavailable(BROKEN_OFF)
        queues.end_waiting(row.id, row.body_at, Status.FAILED, broken, events)
    elif workers and _may_run_again(row):
        log.warning("upkeep.queued_again", job=row.id, attempts=row.attempts)
        queues.enqueue_again(row.id, row.kind, batch_id=row.batch_id)
    else:
        queues.end_waiting(row.id, row.body_at, Status.FAILED, errors.Unavailable(LOST))
    return True


def _may_run_again(row: Row[Any]) -> bool:
    most = MOST_ATTEMPTS if row.batch_id is None else MOST_LINE_ATTEMPTS
    if row.kind == "batch":
        most = MOST_ATTEMPTS_OF_BATCH
    return row.attempts < most and queues.has_body(row.id, row.body_at)


def _long_queued() -> Iterator[Row[Any]]:
    """Yield what Redis should know by now: first what was taken from the dead, then the oldest."""
    before = time.time() - LOST_AFTER_SECONDS
    of_the_dead = col(Job.enqueued_at) == 0
    others = and_(col(Job.enqueued_at) > 0, col(Job.enqueued_at) < before)
    for condition in (of_the_dead, others):
        last = (-1.0, "")
        while page := database.run(partial(_page, condition=condition, after=last)):
            yield from page
            last = (page[-1].created, page[-1].id)


def _page(
    connection: Connection, condition: ColumnElement[bool], after: tuple[float, str]
) -> list[Row[Any]]:
    columns: tuple[Any, ...] = (
        *(col(Job.id), col(Job.kind), col(Job.body_at), col(Job.attempts), col(Job.created)),
        *(col(Job.stream), col(Job.events), col(Job.cancel_requested), col(Job.batch_id)),
        col(Job.asynchronous),
    )
    place = (col(Job.created), col(Job.id))
    query = select(*columns).where(IS_QUEUED, condition, tuple_(*place) > after)
    return list(connection.execute(query.order_by(*place).limit(BATCH)))


def _tidy_rq(job_id: str, queue: str) -> None:
    """Let RQ's registries follow: the executions that were begun of this job are over."""
    begun = ExecutionRegistry(job_id, connection()).get_execution_ids()
    with connection().pipeline(transaction=False) as pipeline:
        for execution_id in begun:
            execution = Execution(execution_id, job_id, connection())
            pipeline.delete(execution.key)
            pipeline.zrem(queues.queue(queue).started_job_registry.key, execution.composite_key)
        pipeline.delete(ExecutionRegistry(job_id, connection()).key)
        pipeline.lrem(queues.queue(queue).intermediate_queue_key, 0, job_id)
        pipeline.execute()


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
        return list(connection.execute(query.limit(BATCH)))

    for row in _unheard(database.run(find)):
        gone = errors.JobCancelled("The client left while the call was still queued.")
        queues.end_waiting(row.id, row.body_at, Status.CANCELLED, gone)


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
        return list(connection.execute(query.limit(BATCH)))

    for row in database.run(find):
        queues.end_waiting(row.id, row.body_at, Status.FAILED, errors.Unavailable(NOBODY_CAME))


def _unheard(rows: list[Row[Any]]) -> list[Row[Any]]:
    """Return the jobs that nobody listens to: who left may have been one of several."""
    if not rows:
        return []
    counts = connection().pubsub_numsub(*[messages.channel(row.id) for row in rows])
    return [row for row, (_, count) in zip(rows, counts, strict=True) if not count]


def forget_old_results() -> None:
    """Drop the answers whose time is up. The records of their jobs stay."""

    def drop(connection: Connection) -> None:
        old = select(col(Result.job_id)).where(col(Result.expires_at) < time.time()).limit(BATCH)
        connection.execute(delete(Result).where(col(Result.job_id).in_(old)))
        ended = select(col(Job.id)).where(
            col(Job.id).in_(select(col(Body.job_id))),
            col(Job.finished_at) < time.time() - KEPT_BODY_SECONDS,
        )
        connection.execute(delete(Body).where(col(Body.job_id).in_(ended.limit(BATCH))))
        before = time.time() - ledger.NAME_SECONDS
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
    except errors.Unavailable as error:
        log.warning("upkeep.media_waits", reason=error.message)
    except Exception:  # A greenlet's outermost door: the next one may do better.
        log.exception("upkeep.media_broke")
