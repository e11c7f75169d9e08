"""Recovery: jobs of dead workers and rows that Redis no longer knows."""

import time
from collections import Counter
from collections.abc import Iterator
from functools import cache, partial
from typing import Any

import structlog
from rq.executions import Execution, ExecutionRegistry
from rq.worker import BaseWorker
from sqlalchemy import ColumnElement, Connection, Row, and_, delete, select, tuple_, update
from sqlmodel import col

import database
from config.redis import connection
from database.clock import now
from jobs.kinds import KINDS, queue_of
from jobs.kinds.image import MAX_BULK_ATTEMPTS
from jobs.lifecycle import bodies, finish
from jobs.lifecycle import queue as lifecycle_queue
from jobs.maintenance import leases
from jobs.streaming import log as stream_log
from jobs.streaming.messages import BROKEN_OFF
from models.errors import JobCancelled, Unavailable
from models.job import IS_IN_PROGRESS, IS_QUEUED, Job, Status
from models.lease import LEASE_SECONDS, Lease

log = structlog.get_logger()


#: A batch has a day for its lines: more workers may die of other reasons meanwhile.
MAX_LINE_ATTEMPTS = 10
#: A row queued for longer than this should be known to Redis.
LOST_AFTER_SECONDS = 5
#: Rows that one pass takes on, or looks at in one transaction.
PAGE_SIZE = 500
#: Where the bodies of so many rows could not be asked for, the others there wait for the next pass.
MAX_SILENCES = 3
CANCELLED = JobCancelled("The job was cancelled.")
LOST = "The worker that ran this call is gone, and no other could take it over. Try again."


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
    known = cache(lambda name: frozenset(lifecycle_queue.queue(name).get_job_ids()))
    workers = cache(lambda: len(leases.live()))
    found, silences = 0, Counter[str]()
    for row in _long_queued():
        if row.id in known(_queue_of(row)) or silences[row.body_at] == MAX_SILENCES:
            continue
        try:
            found += _find(row, workers())
        except Unavailable as error:
            # Its storage does not answer; that is no reason to leave the others waiting.
            silences[row.body_at] += 1
            log.warning("upkeep.row_waits", job=row.id, reason=error.message)
        if found == PAGE_SIZE:
            return


def _queue_of(row: Row[Any]) -> str:
    return queue_of(row.kind, row.batch_id)


def _find(row: Row[Any], workers: int) -> bool:
    """Bring a lost row on; False where it goes on waiting."""
    said = stream_log.last_number(row.id) if row.stream else None
    # What the log has is exact; where Redis was emptied, the row knows at least that it had begun.
    events = row.events if said is None else said
    if row.asynchronous and not workers and not row.cancel_requested and events is None:
        return False  # Nobody waits at a connection for it: it runs when there is a worker again.
    _tidy_rq(row.id, _queue_of(row))
    if row.cancel_requested and KINDS[row.kind].makes_images and row.attempts < MAX_BULK_ATTEMPTS:
        # Some may be stored, and others in the making: a worker ends it, when there is one.
        if not workers:
            return False
        lifecycle_queue.enqueue_again(row.id, row.kind, batch_id=row.batch_id)
    elif row.cancel_requested:
        finish.end_waiting(row.id, row.body_at, Status.CANCELLED, CANCELLED, events)
    elif events is not None:
        broken = Unavailable(BROKEN_OFF)
        finish.end_waiting(row.id, row.body_at, Status.FAILED, broken, events)
    elif workers and _may_run_again(row):
        log.warning("upkeep.queued_again", job=row.id, attempts=row.attempts)
        lifecycle_queue.enqueue_again(row.id, row.kind, batch_id=row.batch_id)
    else:
        finish.end_waiting(row.id, row.body_at, Status.FAILED, Unavailable(LOST))
    return True


def _may_run_again(row: Row[Any]) -> bool:
    max_attempts = KINDS[row.kind].max_attempts if row.batch_id is None else MAX_LINE_ATTEMPTS
    return row.attempts < max_attempts and bodies.has_body(row.id, row.body_at)


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
    return list(connection.execute(query.order_by(*place).limit(PAGE_SIZE)))


def _tidy_rq(job_id: str, queue: str) -> None:
    """Let RQ's registries follow: the executions that were begun of this job are over."""
    begun = ExecutionRegistry(job_id, connection()).get_execution_ids()
    with connection().pipeline(transaction=False) as pipeline:
        for execution_id in begun:
            execution = Execution(execution_id, job_id, connection())
            pipeline.delete(execution.key)
            pipeline.zrem(
                lifecycle_queue.queue(queue).started_job_registry.key, execution.composite_key
            )
        pipeline.delete(ExecutionRegistry(job_id, connection()).key)
        pipeline.lrem(lifecycle_queue.queue(queue).intermediate_queue_key, 0, job_id)
        pipeline.execute()
