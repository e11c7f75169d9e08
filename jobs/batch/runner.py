"""The runner: advances each batch of this worker from status to status, in a greenlet.

A step may be repeated from its start by another worker: every write is guarded by ownership.
"""

import time
from collections.abc import Callable

import gevent
import redis
import structlog
from gevent.pool import Group
from rq.worker import BaseWorker

from jobs.batch import dispatch, output, ownership, validate
from jobs.batch import store as batch_store
from jobs.batch.ownership import BATCH_EXPIRED, OwnedBatch, OwnershipLost
from jobs.worker.in_flight import this_worker
from jobs.worker.services import Service
from models.batch import FINAL, BatchStatus
from models.errors import Unavailable

log = structlog.get_logger()

#: Free batches are looked for this often.
ACQUIRE_SECONDS = 1.0
#: Lines that run in other workers are polled this often.
POLL_SECONDS = 1.0
#: After a line has ended here, others may end for this long, to be recorded together.
DEBOUNCE_SECONDS = 0.05
#: The pause after a step that met a bug.
BROKEN_SECONDS = 15.0
#: Batches that one worker advances at a time.
MAX_ACTIVE = 100


class Runner(Service):
    """The batches that this worker advances, a greenlet for each."""

    def __init__(self) -> None:
        self.owned: dict[str, OwnedBatch] = {}
        self.greenlets = Group()

    def start(self, worker: BaseWorker) -> None:
        self._acquirer = gevent.spawn(self._acquire_forever, lambda: this_worker.is_stopping)

    def _acquire_forever(self, is_stopping: Callable[[], bool]) -> None:
        """Acquire free batches for as long as the worker lives."""
        while True:
            gevent.sleep(ACQUIRE_SECONDS)
            try:
                if this_worker.may_claim and not is_stopping():
                    self._acquire(is_stopping)
            except Unavailable as error:
                log.warning("batches.delayed", reason=error.message)
            except Exception:  # A greenlet's outermost handler: the next pass may do better.
                log.exception("batches.failed")

    def _acquire(self, is_stopping: Callable[[], bool]) -> None:
        max_count = MAX_ACTIVE - len(self.owned)
        if not max_count:
            return
        for batch_id in ownership.acquire(this_worker.lease, list(self.owned), max_count):
            # If this worker's lease had lapsed, its own batches were free as well, and it goes on
            # with those that no other worker has taken.
            if batch_id not in self.owned:
                self.owned[batch_id] = owned = OwnedBatch(batch_id, is_stopping)
                self.greenlets.spawn(self._advance, owned)

    def line_ended(self) -> None:
        for owned in self.owned.values():
            owned.has_work.set()

    def stop(self) -> None:
        # Other workers repeat the steps that this interrupts.
        self._acquirer.kill()
        self.greenlets.kill()

    def _advance(self, owned: OwnedBatch) -> None:
        try:
            while (pause := _try_step(owned)) is not None:
                if owned.has_work.wait(pause):
                    gevent.sleep(DEBOUNCE_SECONDS)
                owned.has_work.clear()
        finally:
            del self.owned[owned.id]


def _try_step(owned: OwnedBatch) -> float | None:
    """Do one step; return the seconds until the next, or None if this worker is done with it."""
    if owned.is_stopping():
        return None
    try:
        return _step(owned)
    except OwnershipLost:
        return None
    except (Unavailable, redis.RedisError) as error:
        log.warning("batch.delayed", batch=owned.id, reason=repr(error.__cause__ or error))
        return POLL_SECONDS
    except Exception:  # A greenlet's outermost handler: the next try may do better.
        log.exception("batch.step_failed", batch=owned.id)
        return BROKEN_SECONDS


def _step(owned: OwnedBatch) -> float | None:
    batch = batch_store.get_one(owned.id)
    match batch.status:
        case BatchStatus.VALIDATING:
            validate.validate(owned, batch)
            return 0
        case BatchStatus.IN_PROGRESS:
            return _run_lines(owned)
        case BatchStatus.CANCELLING:
            return _cancel_lines(owned)
        case BatchStatus.FINALIZING:
            output.write(owned, batch)
            return 0
        case _:
            return _clean_up(owned)


def _run_lines(owned: OwnedBatch) -> float:
    batch, running = dispatch.record_ended(owned)
    may_change = owned.in_status(BatchStatus.IN_PROGRESS)
    if batch.rest is None and time.time() >= batch.expires_at:
        ownership.stop_dispatching(may_change, BATCH_EXPIRED)
        return 0
    if batch.rest is None and batch.fed < batch.total:
        dispatch.dispatch(owned, batch, dispatch.room(running))
        return POLL_SECONDS
    if running:
        return POLL_SECONDS
    ownership.advance(may_change, status=BatchStatus.FINALIZING.value, finalizing_at=time.time())
    return 0


def _cancel_lines(owned: OwnedBatch) -> float:
    batch, running = dispatch.record_ended(owned)
    if running:
        dispatch.cancel_running(batch.id)
        return POLL_SECONDS
    output.write(owned, batch)
    return 0


def _clean_up(owned: OwnedBatch) -> float | None:
    """Delete the lines of a batch that is over, some at a time."""
    may_change = owned.in_status(*FINAL)
    if ownership.delete_some_lines(may_change):
        return 0
    ownership.advance(may_change, is_done=True)
    return None
