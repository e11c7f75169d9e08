"""Maintenance passes. Each is safe to repeat or run concurrently; the lock only saves work."""

import time
from collections.abc import Callable

import gevent
import redis
import structlog
from rq.worker import BaseWorker

from config.redis import connection
from jobs.lifecycle import concurrency
from jobs.maintenance import expiry, pruning, recovery
from jobs.streaming.pubsub import Listener
from models.errors import Unavailable

log = structlog.get_logger()

PASS_SECONDS = 2

_last_pass_at = 0.0
_LOCK = "likedo:upkeep"


def run_in_worker(worker: BaseWorker) -> None:
    """Run passes, and RQ's own maintenance, for as long as the worker lives."""

    def run_both() -> None:
        run_pass()
        if worker.should_run_maintenance_tasks:
            worker.run_maintenance_tasks()

    _run_forever(run_both)


def run_while_awaited(listener: Listener) -> None:
    """Run passes while callers wait in this process, so that dead workers' jobs are recovered."""
    _run_forever(lambda: run_pass() if listener.subscriptions else None)


def _run_forever(task: Callable[[], None]) -> None:
    while True:
        gevent.sleep(PASS_SECONDS)
        try:
            task()
        except (Unavailable, redis.RedisError) as error:
            log.warning("maintenance.delayed", reason=str(error))
        except Exception:  # A greenlet's outermost handler: the next pass may succeed.
            log.exception("maintenance.failed")


def run_pass() -> None:
    """Make one pass, unless this process or another has just made one."""
    global _last_pass_at
    if time.monotonic() - _last_pass_at < PASS_SECONDS - 0.1:
        return
    _last_pass_at = time.monotonic()
    if not connection().set(_LOCK, "1", nx=True, px=int(PASS_SECONDS * 1000) - 100):
        return
    recovery.end_dead_leases()
    recovery.recover_lost_jobs()
    expiry.cancel_abandoned_jobs()
    expiry.end_overdue_waits()
    concurrency.promote_all_waiting()
    pruning.prune()
    expiry.start_storage_cleanup()
