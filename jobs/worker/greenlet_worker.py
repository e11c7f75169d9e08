"""RQ's worker, running its jobs as greenlets: a job here is a wait on somebody else's server."""

import contextlib
import os
import signal
import socket
import sys
import time
import uuid
from collections.abc import Sequence
from typing import Any

import gevent
import redis
import structlog
from gevent.pool import Group
from rq import Queue, Retry
from rq.exceptions import DequeueTimeout, NoSuchJobError
from rq.executions import Execution
from rq.job import Job
from rq.suspension import is_suspended
from rq.utils import as_text
from rq.worker import BaseWorker, WorkerStatus

from config.settings import settings
from jobs.lifecycle import bodies, finish, throughput
from jobs.maintenance import leases
from jobs.streaming import messages
from jobs.streaming.messages import Ended
from jobs.streaming.pubsub import Listener
from jobs.worker import in_flight, scratch
from jobs.worker.in_flight import HandedBack, this_worker
from jobs.worker.lease import LeaseKeeper
from jobs.worker.services import Service
from jobs.worker.slots import Slots, can_wait, has_lines
from models.errors import JobCancelled, Unavailable
from models.lease import RENEWAL_SECONDS

log = structlog.get_logger()

TICK_SECONDS = 1
#: A stopping worker gives running work this long; then it hands it back.
DRAIN_SECONDS = 20
#: What is left of the 25 s for handing back.
HAND_BACK_SECONDS = 3
#: RQ's dashboards take a worker without a heartbeat for dead after a minute or more.
HEARTBEAT_SECONDS = 10
RECONNECT_SECONDS = 0.5
#: An empty queue that can wait is looked at again after this.
LOOK_SECONDS = 0.25


class GreenletWorker(BaseWorker):
    """Runs up to `capacity` jobs at once, each in a greenlet, under a lease in SQL.

    Each queue has a greenlet that takes from it; some may run fewer jobs at once. `services` run
    beside the jobs: they are started with the worker, and stopped with it in their order.
    """

    log_result_lifespan = False
    log_job_description = False

    def __init__(
        self,
        limits: dict[str, int],
        capacity: int,
        connection: redis.Redis,
        services: Sequence[Service] = (),
    ) -> None:
        """`limits`: the queues to work on, each with how many of its jobs may run at once."""
        super().__init__(
            [Queue(name, connection=connection, serializer="json") for name in limits],
            name=f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}",
            connection=connection,
            serializer="json",
        )
        self.capacity = capacity
        self.slots = Slots(limits, capacity)
        self.services = services
        self.lease = LeaseKeeper(self.name, capacity)
        self.jobs = Group()
        self.listened_at = 0.0
        #: Whether RQ has been told of this worker, and when it was last told that it lives.
        self.registered = False
        self.beaten_at = 0.0

    def _set_ip_address(self, connection: redis.Redis) -> None:
        try:
            super()._set_ip_address(connection)
        except (redis.RedisError, ValueError):
            # Redis is not there yet, or says it in a way that redis-py cannot read, as for a
            # socket whose path has a space in it. It is only shown in dashboards.
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
        #: They have to be kept for as long as they are to be heard.
        self.signals = [gevent.signal_handler(number, self._request_stop) for number in numbers]

    def _request_stop(self) -> None:
        self._stop_requested = this_worker.is_stopping = True

    def work(self, *_: Any, **__: Any) -> bool:
        """Work until told to stop; then finish or hand back what runs."""
        self._install_signal_handlers()
        #: Who hangs up on a running job says so here.
        Listener({messages.worker_channel(self.name): in_flight.obey})
        ticker = gevent.spawn(self._tick_for_ever)
        for service in self.services:
            service.start(self)
        gevent.spawn(_tidy_folders)
        self._begin()
        gevent.joinall([gevent.spawn(self._take_for_ever, queue) for queue in self.queues])
        log.info("worker.stopping", running=len(self.jobs))
        self._drain()
        ticker.kill()
        for service in self.services:
            service.stop()
        self._end()
        return True

    def _begin(self) -> None:
        """Appear in RQ's lists, however long Redis takes to be there."""
        while not self._stop_requested:
            try:
                self._register()
                self.subscribe()
                self.set_state(WorkerStatus.STARTED)
                self.registered = True
                log.info("worker.started", name=self.name, capacity=self.capacity)
                return
            except redis.RedisError as error:
                self._wait_for_redis(error)

    def _register(self) -> None:
        # Where a try broke off halfway, RQ takes its own record of us for another worker's.
        with contextlib.suppress(ValueError):
            self.register_birth()

    def _take_for_ever(self, queue: Queue) -> None:
        while not self._stop_requested:
            try:
                self._take_next(queue)
            except Exception:  # A greenlet's outermost door: the queue must not be left alone.
                log.exception("worker.taking_broke", queue=queue.name)
                gevent.sleep(RECONNECT_SECONDS)

    def _take_next(self, queue: Queue) -> None:
        """Take one job off a queue and run it in a greenlet; wait a second at most."""
        if not self.slots.acquire(queue):
            return
        taken = None
        try:
            taken = self._dequeue(queue)
        except redis.RedisError as error:
            self._wait_for_redis(error)
        finally:
            if taken is None:
                self.slots.release(queue)
        if taken is not None:
            self.jobs.start(gevent.Greenlet(self._run, taken, queue))
        else:
            # Who waits for the slot is to have it before it is asked for here again.
            gevent.sleep(LOOK_SECONDS if can_wait(queue) else 0)

    def _dequeue(self, queue: Queue) -> str | None:
        """Move the next job's id to the list of those that are being taken, and return it."""
        if not this_worker.may_claim:
            gevent.sleep(0.05)
            return None
        # Nobody waits for a line: it is not worth holding a slot until there is one.
        timeout = None if can_wait(queue) else self.dequeue_timeout
        try:
            found = self.queue_class.lmove(self.connection, queue.key, timeout)
        except DequeueTimeout:
            found = None
        if found is None:
            self._rest_while_suspended()
            return None
        return as_text(found[1])

    def _rest_while_suspended(self) -> None:
        """`rq suspend` is looked for when there is nothing to do, and then obeyed."""
        while not self._stop_requested and is_suspended(self.connection, self):
            gevent.sleep(TICK_SECONDS)

    def _wait_for_redis(self, error: redis.RedisError) -> None:
        log.warning("worker.redis_lost", reason=str(error))
        gevent.sleep(RECONNECT_SECONDS)

    def _run(self, job_id: str, queue: Queue) -> None:
        try:
            if started := self._start(job_id, queue):
                self.perform_job(started.job, queue, started)
        except redis.RedisError as error:
            # What the job did is in SQL; RQ's own records of it are upkeep's to tidy.
            log.warning("worker.redis_lost", job=job_id, reason=str(error))
        except Exception:  # A greenlet's outermost door.
            log.exception("worker.job_broke", job=job_id)
        finally:
            this_worker.bodies.pop(job_id, None)
            self.slots.release(queue)

    def _start(self, job_id: str, queue: Queue) -> Execution | None:
        """Fetch a job and its body, and write what RQ shows of a running job: one round trip."""
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
            stored, body, *_ = pipeline.execute()
        try:
            job.restore(stored)
        except NoSuchJobError:
            # Redis was emptied since the id was taken. Upkeep finds the row that says `queued`.
            self.connection.delete(job.key)
            return None
        this_worker.bodies[job_id] = body
        self.executions[execution.id] = execution
        return execution

    def request_stop_execution(self, execution_id: str) -> None:
        """Obey `rq`'s command to stop a job: it is cancelled, as by its owner."""
        if execution := self.executions.get(execution_id):
            this_worker.abort(execution.job_id, JobCancelled("The operator stopped the job."))

    def perform_job(self, job: Job, queue: Queue, execution: Execution) -> bool:
        """Perform the job, tell who waits, and clear RQ's records of it: what it did is in SQL."""
        try:
            outcome = job.perform()
        except redis.RedisError:
            raise
        except Exception:  # Jobs answer for their own failures: this is a bug, for RQ's registry.
            self._finalize_failure(job, queue, execution, sys.exc_info())
            return False
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
        if has_lines(queue):
            for service in self.services:
                service.line_ended()
        return True

    def _tick_for_ever(self) -> None:
        """Keep the lease, end what is overdue or cancelled, and show signs of life to RQ."""
        this_worker.lease = self.name
        while True:
            try:
                self._tick()
            # A greenlet's outermost door: without the next tick we count as dead.
            except Exception:
                log.exception("worker.tick_broke")
            gevent.sleep(TICK_SECONDS)

    def _tick(self) -> None:
        self.lease.keep(len(self.jobs))
        scratch.touch()
        this_worker.abort_overdue(time.monotonic())
        self._look_for_listeners()
        self._tell_pace()
        if self.registered and time.monotonic() - self.beaten_at > HEARTBEAT_SECONDS:
            self.beaten_at = time.monotonic()
            self._beat()

    def _look_for_listeners(self) -> None:
        """End streams whose web process died, and nobody else listens to."""
        if not this_worker.heard_at or time.monotonic() - self.listened_at < RENEWAL_SECONDS:
            return
        self.listened_at = time.monotonic()
        job_ids = list(this_worker.heard_at)
        try:
            counts = self.connection.pubsub_numsub(*map(messages.channel, job_ids))
        except redis.RedisError as error:
            log.warning("worker.redis_lost", reason=str(error))
            return
        heard = {job_id: count > 0 for job_id, (_, count) in zip(job_ids, counts, strict=True)}
        this_worker.abort_unheard(heard, time.monotonic())

    def _tell_pace(self) -> None:
        try:
            throughput.report()
        except redis.RedisError as error:
            log.warning("worker.redis_lost", reason=str(error))

    def _beat(self) -> None:
        """Renew what RQ shows of this worker; write it anew where Redis was emptied."""
        try:
            if not self.connection.exists(self.key):
                self._register()
            self.heartbeat()
        except redis.RedisError as error:
            log.warning("worker.redis_lost", reason=str(error))

    def _drain(self) -> None:
        """Let running jobs end, and what the services do for them; hand back what takes long."""
        if not self.jobs.join(timeout=DRAIN_SECONDS):
            log.info("worker.handing_back", jobs=len(this_worker.calls))
            this_worker.abort_all(HandedBack("The worker is stopping."))
        for service in self.services:
            service.finish()
        self.jobs.join(timeout=HAND_BACK_SECONDS)

    def _end(self) -> None:
        this_worker.may_claim = False
        scratch.remove_own()
        try:
            self.lease.close()
            self.teardown()
        except (Unavailable, redis.RedisError) as error:
            log.warning("worker.end_unrecorded", reason=str(error))
        log.info("worker.stopped", name=self.name)


def _tidy_folders() -> None:
    """Remove what workers that were killed on this machine have left."""
    try:
        scratch.remove_left({lease.name for lease in leases.live()})
    except Unavailable as error:
        log.warning("worker.folders_left", reason=error.message)
