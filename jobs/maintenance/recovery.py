"""Recovery: jobs of dead workers, and queued jobs that Redis no longer knows."""

import time
from collections import Counter
from collections.abc import Iterator
from functools import cache

import structlog
from rq.executions import Execution, ExecutionRegistry
from rq.worker import BaseWorker
from sqlalchemy import ColumnElement, Connection, and_, delete, select, tuple_, update
from sqlmodel import col

import database
from config.redis import connection
from database.clock import now
from jobs.kinds import KINDS, queue_name, queue_names
from jobs.lifecycle import bodies, finish, queue
from jobs.maintenance import leases
from jobs.streaming import log as stream_log
from jobs.streaming.messages import STREAM_BROKEN
from models.errors import JobCancelled, Unavailable
from models.job import IS_IN_PROGRESS, IS_QUEUED, Job, Status
from models.lease import LEASE_SECONDS, Lease

log = structlog.get_logger()

#: Batch lines have a day to run, in which more workers may die for unrelated reasons.
MAX_LINE_ATTEMPTS = 10
#: A cancelled image job goes to a worker again, to settle what is made, until it was claimed this
#: often.
MAX_CANCEL_ATTEMPTS = 100
#: Redis should know a job that was enqueued longer ago than this.
LOST_AFTER_SECONDS = 5
#: Jobs that one pass recovers, or reads in one transaction.
PAGE_SIZE = 500
#: After so many failures of one store of bodies, its other jobs are left to the next pass.
MAX_STORE_FAILURES = 3

CANCELLED = JobCancelled("The job was cancelled.")
WORKER_GONE = "The worker that ran this call is gone, and no other could take it over. Try again."


# ---- Dead workers --------------------------------------------------------------------------------


def end_dead_leases() -> None:
    """Delete expired leases, and queue the jobs under them for `recover_lost_jobs`."""
    dead = database.run(_end_leases)
    if dead:
        log.error("maintenance.workers_dead", workers=dead)
    for name in dead:
        # Its record in Redis is not read: anybody may have written it.
        queues = [queue.queue(name) for name in queue_names()]
        BaseWorker(queues, name, connection=connection(), prepare_for_work=False).register_death()


def _end_leases(connection: Connection) -> list[str]:
    expired = select(col(Lease.name)).where(now() - col(Lease.last_seen) >= LEASE_SECONDS)
    dead = list(connection.execute(expired).scalars())
    if dead:
        connection.execute(delete(Lease).where(col(Lease.name).in_(dead)))
    connection.execute(_QUEUE_JOBS_WITHOUT_LEASE)
    return dead


#: Also matches a job that was claimed just after its worker's lease was ended.
_QUEUE_JOBS_WITHOUT_LEASE = (
    update(Job)
    .where(
        IS_IN_PROGRESS,
        col(Job.worker).not_in(select(col(Lease.name))),
    )
    # 0 marks them for `recover_lost_jobs`, which comes next in the pass.
    .values(status=Status.QUEUED.value, worker=None, enqueued_at=0)
)


# ---- Lost jobs -----------------------------------------------------------------------------------


class _QueuedJob:
    id: str
    kind: str
    body_at: str
    attempts: int
    created: float
    stream: bool
    events: int | None
    cancel_requested: bool
    batch_id: str | None
    asynchronous: bool


_COLUMNS = (
    *(col(Job.id), col(Job.kind), col(Job.body_at), col(Job.attempts), col(Job.created)),
    *(col(Job.stream), col(Job.events), col(Job.cancel_requested), col(Job.batch_id)),
    col(Job.asynchronous),
)


def recover_lost_jobs() -> None:
    """Enqueue again, or end free of charge, jobs that are queued in SQL but unknown to Redis.

    Reads all queued jobs, since any number may wait in their queues, and recovers up to
    `PAGE_SIZE` lost ones.
    """
    known = cache(lambda name: frozenset(queue.queue(name).get_job_ids()))
    workers = cache(lambda: len(leases.live()))
    recovered, store_failures = 0, Counter[str]()
    for job in _long_queued():
        if (
            job.id in known(queue_name(job.kind, job.batch_id))
            or store_failures[job.body_at] == MAX_STORE_FAILURES
        ):
            continue
        try:
            recovered += _recover(job, workers())
        except Unavailable as error:
            # Only the body of this job cannot be read; the other jobs need not wait.
            store_failures[job.body_at] += 1
            log.warning("maintenance.job_delayed", job=job.id, reason=error.message)
        if recovered == PAGE_SIZE:
            return


def _recover(job: _QueuedJob, workers: int) -> bool:
    """Enqueue or end a lost job; return False if it is left waiting."""
    logged = stream_log.last_number(job.id) if job.stream else None
    # The log is exact. If Redis was emptied, the row still shows that the stream had begun.
    events = job.events if logged is None else logged
    if job.asynchronous and not workers and not job.cancel_requested and events is None:
        return False  # No connection waits for it, so it can wait until there is a worker again.
    _remove_executions(job)
    if job.cancel_requested and KINDS[job.kind].makes_images and job.attempts < MAX_CANCEL_ATTEMPTS:
        # Some images may be stored, and others in the making: ending it takes a worker.
        if not workers:
            return False
        queue.enqueue_again(job.id, job.kind, batch_id=job.batch_id)
    elif job.cancel_requested:
        finish.end_unclaimed(job.id, job.body_at, Status.CANCELLED, CANCELLED, events)
    elif events is not None:
        error = Unavailable(STREAM_BROKEN)
        finish.end_unclaimed(job.id, job.body_at, Status.FAILED, error, events)
    elif workers and _may_run_again(job):
        log.warning("maintenance.enqueued_again", job=job.id, attempts=job.attempts)
        queue.enqueue_again(job.id, job.kind, batch_id=job.batch_id)
    else:
        finish.end_unclaimed(job.id, job.body_at, Status.FAILED, Unavailable(WORKER_GONE))
    return True


def _may_run_again(job: _QueuedJob) -> bool:
    max_attempts = KINDS[job.kind].max_attempts if job.batch_id is None else MAX_LINE_ATTEMPTS
    return job.attempts < max_attempts and bodies.exists(job.id, job.body_at)


def _long_queued() -> Iterator[_QueuedJob]:
    """Yield the jobs that Redis should know: first those of dead workers, then the oldest."""
    before = time.time() - LOST_AFTER_SECONDS
    of_dead_workers = col(Job.enqueued_at) == 0
    others = and_(col(Job.enqueued_at) > 0, col(Job.enqueued_at) < before)
    for condition in (of_dead_workers, others):
        last = (-1.0, "")
        while page := _page(condition, last):
            yield from page
            last = (page[-1].created, page[-1].id)


def _page(condition: ColumnElement[bool], after: tuple[float, str]) -> list[_QueuedJob]:
    position = (col(Job.created), col(Job.id))
    query = select(*_COLUMNS).where(IS_QUEUED, condition, tuple_(*position) > after)
    return database.all(query.order_by(*position).limit(PAGE_SIZE), _QueuedJob)


def _remove_executions(job: _QueuedJob) -> None:
    """Remove the job's begun executions from RQ's registries: they are over."""
    rq_queue = queue.queue(queue_name(job.kind, job.batch_id))
    executions = ExecutionRegistry(job.id, connection())
    begun = executions.get_execution_ids()
    with connection().pipeline(transaction=False) as pipeline:
        for execution_id in begun:
            execution = Execution(execution_id, job.id, connection())
            pipeline.delete(execution.key)
            pipeline.zrem(rq_queue.started_job_registry.key, execution.composite_key)
        pipeline.delete(executions.key)
        pipeline.lrem(rq_queue.intermediate_queue_key, 0, job.id)
        pipeline.execute()
