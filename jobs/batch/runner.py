"""Batches, brought from one status to the next by a greenlet of the worker that has them.

A step may be done again from its start, by another worker: what it writes is guarded.
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

#: Batches that nobody advances are looked for this often.
LOOK_SECONDS = 1.0
#: Of lines that run elsewhere, those that have ended are looked for this often.
PAUSE_SECONDS = 1.0
#: What ends here is noted together with what ends in the next moment.
MOMENT_SECONDS = 0.05
#: After a step that met a bug.
BROKEN_SECONDS = 15.0
#: Batches that one worker advances at a time.
MAX_AT_ONCE = 100


class Runner(Service):
    """The batches that this worker advances, a greenlet for each."""

    def __init__(self) -> None:
        self.held: dict[str, OwnedBatch] = {}
        self.greenlets = Group()

    def start(self, worker: BaseWorker) -> None:
        self._looker = gevent.spawn(self._look_for_ever, lambda: this_worker.is_stopping)

    def _look_for_ever(self, is_stopping: Callable[[], bool]) -> None:
        """Take on batches that nobody advances, for as long as the worker lives."""
        while True:
            gevent.sleep(LOOK_SECONDS)
            try:
                if this_worker.may_claim and not is_stopping():
                    self._take_on(is_stopping)
            except Unavailable as error:
                log.warning("batches.wait", reason=error.message)
            except Exception:  # A greenlet's outermost door: the next look may do better.
                log.exception("batches.broke")

    def _take_on(self, is_stopping: Callable[[], bool]) -> None:
        most = MAX_AT_ONCE - len(self.held)
        for batch_id in ownership.take_on(this_worker.lease, list(self.held), most) if most else ():
            self.held[batch_id] = held = OwnedBatch(batch_id, is_stopping)
            self.greenlets.spawn(self._advance, held)

    def line_ended(self) -> None:
        for held in self.held.values():
            held.woken.set()

    def stop(self) -> None:
        # Other workers do their last steps again.
        self._looker.kill()
        self.greenlets.kill()

    def _advance(self, held: OwnedBatch) -> None:
        try:
            while (pause := _try_step(held)) is not None:
                if held.woken.wait(pause):
                    gevent.sleep(MOMENT_SECONDS)
                held.woken.clear()
        finally:
            del self.held[held.id]


def _try_step(held: OwnedBatch) -> float | None:
    """Do what is to be done; return the seconds until there may be more, None where it is over."""
    if held.is_stopping():
        return None
    try:
        return _step(held)
    except OwnershipLost:
        return None
    except (Unavailable, redis.RedisError) as error:
        log.warning("batch.waits", batch=held.id, reason=repr(error.__cause__ or error))
        return PAUSE_SECONDS
    except Exception:  # A greenlet's outermost door: the next try may do better.
        log.exception("batch.broke", batch=held.id)
        return BROKEN_SECONDS


def _step(held: OwnedBatch) -> float | None:
    row = batch_store.get_one(held.id)
    match row.status:
        case BatchStatus.VALIDATING:
            validate.validate(held, row)
            return 0
        case BatchStatus.IN_PROGRESS:
            return _go_on(held)
        case BatchStatus.CANCELLING:
            return _end_early(held)
        case BatchStatus.FINALIZING:
            output.write(held, row)
            return 0
        case _:
            return _tidy_up(held)


def _go_on(held: OwnedBatch) -> float:
    row, running = dispatch.note_ended(held)
    ours = held.in_status(BatchStatus.IN_PROGRESS)
    if row.rest is None and time.time() >= row.expires_at:
        ownership.stop_dispatching(ours, BATCH_EXPIRED)
        return 0
    if row.rest is None and row.fed < row.total:
        dispatch.dispatch(held, row, dispatch.room(running))
        return PAUSE_SECONDS
    if running:
        return PAUSE_SECONDS
    ownership.advance(ours, status=BatchStatus.FINALIZING.value, finalizing_at=time.time())
    return 0


def _end_early(held: OwnedBatch) -> float:
    row, running = dispatch.note_ended(held)
    if running:
        dispatch.cancel_running(row.id)
        return PAUSE_SECONDS
    output.write(held, row)
    return 0


def _tidy_up(held: OwnedBatch) -> float | None:
    """Forget the lines of a batch that is over, some at a time."""
    ours = held.in_status(*FINAL)
    if ownership.forget_some_lines(ours):
        return 0
    ownership.advance(ours, is_done=True)
    return None
