"""Maintenance passes. Each is safe to run twice or concurrently; a lock in Redis saves the work."""

import time
from collections.abc import Callable

import gevent
import redis
import structlog
from rq.worker import BaseWorker

from config.redis import connection
from jobs.lifecycle import concurrency
from jobs.maintenance import expiry, recovery
from jobs.streaming.pubsub import Listener
from models.errors import Unavailable

log = structlog.get_logger()

PASS_SECONDS = 2

_passed_at = 0.0
_LOCK = "likedo:upkeep"


def run_in_worker(worker: BaseWorker) -> None:
    """Pass after pass, for as long as the worker lives."""

    def work() -> None:
        run_pass()
        if worker.should_run_maintenance_tasks:
            worker.run_maintenance_tasks()

    _for_ever(work)


def run_while_awaited(listener: Listener) -> None:
    """See to it that dead workers are noticed while anybody waits in this process."""
    _for_ever(lambda: run_pass() if listener.waiters else None)


def _for_ever(work: Callable[[], None]) -> None:
    while True:
        gevent.sleep(PASS_SECONDS)
        try:
            work()
        except (Unavailable, redis.RedisError) as error:
            log.warning("upkeep.waits", reason=str(error))
        except Exception:  # A greenlet's outermost door: the next pass may do better.
            log.exception("upkeep.broke")


def run_pass() -> None:
    """Make one pass, unless this process or another has just made one."""
    global _passed_at
    if time.monotonic() - _passed_at < PASS_SECONDS - 0.1:
        return
    _passed_at = time.monotonic()
    if not connection().set(_LOCK, "1", nx=True, px=int(PASS_SECONDS * 1000) - 100):
        return
    recovery.end_dead_leases()
    recovery.find_lost_rows()
    expiry.cancel_left_jobs()
    expiry.end_overdue_waits()
    concurrency.promote_all_waiting()
    expiry.forget_old_results()
    expiry.forget_media_now_and_then()
