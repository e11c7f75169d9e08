"""RQ's worker, running its jobs as greenlets: a job mostly waits for a provider's server."""

import contextlib
import os
import signal
import socket
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import gevent
import redis
import structlog
from gevent.pool import Group
from rq import Queue, Retry
from rq.exceptions import DequeueTimeout
from rq.executions import Execution
from rq.job import Job
from rq.worker import BaseWorker, WorkerStatus

from config.settings import settings
from jobs.lifecycle import bodies, finish, throughput
from jobs.maintenance import leases
from jobs.streaming import messages
from jobs.streaming.messages import Ended
from jobs.streaming.pubsub import Listener
from jobs.worker import in_flight, rq_record, scratch
from jobs.worker.in_flight import HandedBack, this_worker
from jobs.worker.lease import LeaseKeeper
from jobs.worker.rq_record import Run
from jobs.worker.services import Service
from jobs.worker.slots import Slots, is_background, is_line_queue
from models.errors import Unavailable
from models.lease import RENEWAL_SECONDS

log = structlog.get_logger()

TICK_SECONDS = 1
#: A stopping worker gives running jobs this long; then it hands them back.
DRAIN_SECONDS = 20
#: Handing back gets this long, so that both stay within 25 s.
HAND_BACK_SECONDS = 3
#: RQ's dashboards take a worker without a heartbeat for dead after a minute or more.
HEARTBEAT_SECONDS = 10
RECONNECT_SECONDS = 0.5
#: An empty background queue is polled again after this.
BACKGROUND_POLL_SECONDS = 0.25


class GreenletWorker(BaseWorker):
    """Runs up to `capacity` jobs at once, each in a greenlet, under a lease in SQL.

    Each queue has a greenlet that dequeues from it; some queues may run fewer jobs at once.
    `services` run beside the jobs: they start and stop with the worker, in their order.
    """

    log_result_lifespan = False
    log_job_description = False

    def __init__(
        self,
        limits: dict[str, int],
        capacity: int,
        connection: redis.Redis,
        functions: Mapping[str, Run],
        services: Sequence[Service] = (),
    ) -> None:
        """`limits`: the names of the queues, each with how many of its jobs may run at once.

        `functions`: by name, all that this worker ever runs, whatever Redis says.
        """
        super().__init__(
            [Queue(name, connection=connection, serializer="json") for name in limits],
            name=f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}",
            connection=connection,
            serializer="json",
        )
        self.capacity = capacity
        self.functions = functions
        self.slots = Slots(limits, capacity)
        self.services = services
        self.lease = LeaseKeeper(self.name, capacity)
        self.jobs = Group()
        self.listeners_checked_at = 0.0
        #: Whether this worker is in RQ's lists, and when its last heartbeat was sent.
        self.is_registered = False
        self.heartbeat_at = 0.0

    def _set_ip_address(self, connection: redis.Redis) -> None:
        try:
            super()._set_ip_address(connection)
        except (redis.RedisError, ValueError):
            # Redis does not answer yet, or redis-py cannot parse its reply, as for a socket whose
            # path has a space. The address is only shown in dashboards.
            self.ip_address = "unknown"

    @property
    def dequeue_timeout(self) -> int:
        return 1

    def get_heartbeat_ttl(self, job: Job, working_time: float = 0.0) -> int:
        # Long enough that RQ never takes a running job for abandoned: our leases decide that.
        return int(settings.job_timeout_seconds) + 120

    def _install_signal_handlers(self) -> None:
        # RQ's own handlers raise inside whatever greenlet happens to run.
        numbers = (signal.SIGTERM, signal.SIGINT)
        #: Kept, since a handler works only as long as it is referenced.
        self.signals = [gevent.signal_handler(number, self._request_stop) for number in numbers]

    def _request_stop(self) -> None:
        self._stop_requested = this_worker.is_stopping = True

    def work(self, *_: Any, **__: Any) -> bool:
        """Run jobs until a signal to stop; then finish the running ones or hand them back."""
        self._install_signal_handlers()
        # Cancellations of running jobs arrive on this channel.
        Listener({messages.worker_channel(self.name): in_flight.abort_by_message})
        ticker = gevent.spawn(self._tick_forever)
        for service in self.services:
            service.start(self)
        gevent.spawn(_remove_stale_folders)
        self._register_with_retry()
        gevent.joinall([gevent.spawn(self._dequeue_forever, queue) for queue in self.queues])
        log.info("worker.stopping", running=len(self.jobs))
        self._drain()
        ticker.kill()
        for service in self.services:
            service.stop()
        self._close()
        return True

    def _register_with_retry(self) -> None:
        """Register with RQ, however long Redis takes to be there."""
        while not self._stop_requested:
            try:
                self._register()  # And obey no commands of RQ's: anybody can send them.
                self.set_state(WorkerStatus.STARTED)
                self.is_registered = True
                log.info("worker.started", name=self.name, capacity=self.capacity)
                return
            except redis.RedisError as error:
                self._wait_for_redis(error)

    def _register(self) -> None:
        # If an earlier try broke off halfway, RQ takes our own record for another worker's.
        with contextlib.suppress(ValueError):
            self.register_birth()

    def _dequeue_forever(self, queue: Queue) -> None:
        while not self._stop_requested:
            try:
                self._start_next(queue)
            except Exception:  # A greenlet's outermost handler: the queue must stay served.
                log.exception("worker.dequeue_failed", queue=queue.name)
                gevent.sleep(RECONNECT_SECONDS)

    def _start_next(self, queue: Queue) -> None:
        """Dequeue one job and run it in a greenlet; wait a second at most."""
        if not self.slots.acquire(queue):
            return
        job_id = None
        try:
            job_id = self._dequeue(queue)
        except redis.RedisError as error:
            self._wait_for_redis(error)
        finally:
            if job_id is None:
                self.slots.release(queue)
        if job_id is not None:
            self.jobs.start(gevent.Greenlet(self._run, job_id, queue))
        else:
            # Let another queue that waits for the slot have it first.
            gevent.sleep(BACKGROUND_POLL_SECONDS if is_background(queue) else 0)

    def _dequeue(self, queue: Queue) -> str | None:
        """Move the next job's id to the queue's intermediate list, and return it."""
        if not this_worker.may_claim:
            gevent.sleep(0.05)
            return None
        # No client waits for a background job: a slot is not held until there is one.
        timeout = None if is_background(queue) else self.dequeue_timeout
        try:
            moved = self.queue_class.lmove(self.connection, queue.key, timeout)
        except DequeueTimeout:
            moved = None
        if moved is None:
            return None
        if (job_id := rq_record.read_id(moved[1])) is None:
            log.error("worker.entry_refused", queue=queue.name, entry=repr(moved[1][:100]))
            self.connection.lrem(queue.intermediate_queue_key, 1, moved[1])
        return job_id

    def _wait_for_redis(self, error: redis.RedisError) -> None:
        log.warning("worker.redis_lost", reason=str(error))
        gevent.sleep(RECONNECT_SECONDS)

    def _run(self, job_id: str, queue: Queue) -> None:
        try:
            if started := self._start(job_id, queue):
                self._perform(*started, queue)
        except redis.RedisError as error:
            # What the job did is in SQL; maintenance tidies up RQ's own records of it.
            log.warning("worker.redis_lost", job=job_id, reason=str(error))
        except (
            Exception
        ):  # A greenlet's outermost handler. Jobs handle their failures: it is a bug.
            log.exception("worker.job_failed", job=job_id)
        finally:
            this_worker.bodies.pop(job_id, None)
            self.slots.release(queue)

    def _start(self, job_id: str, queue: Queue) -> tuple[Run, Execution] | None:
        """Fetch a job's function and body, and write RQ's records of it: one round trip."""
        job = self.job_class(job_id, connection=self.connection, serializer=self.serializer)
        job.origin = queue.name
        with self.connection.pipeline(transaction=False) as pipeline:
            pipeline.hgetall(job.key)
            bodies.fetch(pipeline, job_id)
            execution = Execution.create(
                job, self.get_heartbeat_ttl(job), pipeline=pipeline, worker_name=self.name
            )
            job.prepare_for_execution(self.name, pipeline=pipeline)
            pipeline.lrem(queue.intermediate_queue_key, 1, job_id)
            record, body, *_ = pipeline.execute()
        if b"data" not in record:
            # Redis was emptied since the dequeue. Maintenance finds the row, still `queued`.
            self.connection.delete(job.key)
            return None
        function = rq_record.find_function(job_id, record, self.functions)
        if function is None:
            # If there is such a job in SQL, maintenance queues it again, as it was.
            log.error("worker.job_refused", job=job_id, reason="Its record names no job of ours.")
            self._clear(execution)
            return None
        this_worker.bodies[job_id] = body
        self.executions[execution.id] = execution
        return function, execution

    def _perform(self, function: Run, execution: Execution, queue: Queue) -> None:
        """Perform the job, announce its end, and clear RQ's records: what it did is in SQL."""
        job = execution.job
        try:
            outcome = function(job.id)
        except redis.RedisError:
            raise
        except Exception:
            self._clear(execution)
            raise
        with self.connection.pipeline(transaction=False) as pipeline:
            if isinstance(outcome, Ended):
                throughput.record_done(queue.name)
                finish.announce(pipeline, job.id, outcome)
            self.cleanup_execution(job, pipeline=pipeline, execution=execution)
            if isinstance(outcome, Retry):
                pipeline.lpush(queue.key, job.id)
            else:
                pipeline.delete(job.key)
            pipeline.execute()
        if is_line_queue(queue):
            for service in self.services:
                service.line_ended()

    def _clear(self, execution: Execution) -> None:
        """Remove RQ's records of a job that was refused, or that a bug ended."""
        with self.connection.pipeline(transaction=False) as pipeline:
            self.cleanup_execution(execution.job, pipeline=pipeline, execution=execution)
            pipeline.delete(execution.job.key)
            pipeline.execute()

    def _tick_forever(self) -> None:
        """Renew the lease, end what is overdue or cancelled, and send RQ's heartbeats."""
        this_worker.lease = self.name
        while True:
            try:
                self._tick()
            # A greenlet's outermost handler: without the next tick this worker counts as dead.
            except Exception:
                log.exception("worker.tick_failed")
            gevent.sleep(TICK_SECONDS)

    def _tick(self) -> None:
        self.lease.keep(len(self.jobs))
        scratch.touch()
        this_worker.abort_overdue(time.monotonic())
        self._check_listeners()
        self._report_throughput()
        if self.is_registered and time.monotonic() - self.heartbeat_at > HEARTBEAT_SECONDS:
            self.heartbeat_at = time.monotonic()
            self._send_heartbeat()

    def _check_listeners(self) -> None:
        """End streams whose web process died and that have no other listener."""
        age = time.monotonic() - self.listeners_checked_at
        if not this_worker.listened_at or age < RENEWAL_SECONDS:
            return
        self.listeners_checked_at = time.monotonic()
        job_ids = list(this_worker.listened_at)
        try:
            counts = self.connection.pubsub_numsub(*map(messages.channel, job_ids))
        except redis.RedisError as error:
            log.warning("worker.redis_lost", reason=str(error))
            return
        has_listener = {
            job_id: count > 0 for job_id, (_, count) in zip(job_ids, counts, strict=True)
        }
        this_worker.abort_abandoned(has_listener, time.monotonic())

    def _report_throughput(self) -> None:
        try:
            throughput.report()
        except redis.RedisError as error:
            log.warning("worker.redis_lost", reason=str(error))

    def _send_heartbeat(self) -> None:
        """Renew RQ's record of this worker; write it anew if Redis was emptied."""
        try:
            if not self.connection.exists(self.key):
                self._register()
            self.heartbeat()
        except redis.RedisError as error:
            log.warning("worker.redis_lost", reason=str(error))

    def _drain(self) -> None:
        """Let running jobs and the services finish; hand back the jobs that take too long."""
        if not self.jobs.join(timeout=DRAIN_SECONDS):
            log.info("worker.jobs_handed_back", jobs=len(this_worker.calls))
            this_worker.abort_all(HandedBack("The worker is stopping."))
        for service in self.services:
            service.finish()
        self.jobs.join(timeout=HAND_BACK_SECONDS)

    def _close(self) -> None:
        this_worker.may_claim = False
        scratch.remove()
        try:
            self.lease.close()
            self.teardown()
        except (Unavailable, redis.RedisError) as error:
            log.warning("worker.end_unrecorded", reason=str(error))
        log.info("worker.stopped", name=self.name)


def _remove_stale_folders() -> None:
    """Remove the folders left by workers that were killed on this machine."""
    try:
        scratch.remove_stale({lease.name for lease in leases.live()})
    except Unavailable as error:
        log.warning("worker.folders_left", reason=error.message)
