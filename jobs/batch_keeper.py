"""Batches, brought from one status to the next by a greenlet of the worker that has them.

A step may be done again from its start, by another worker: what it writes is guarded.
"""

import time
from collections.abc import Callable
from functools import cache

import gevent
import redis
import structlog
from gevent.pool import Group

from jobs import batch_check, batch_files, batch_lines, batches
from jobs.batches import BATCH_EXPIRED, Held, NotOurs
from jobs.running import work
from models import errors
from models.batch import OVER, BatchStatus

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
MOST_AT_ONCE = 100


class Keeper:
    """The batches that this worker advances, a greenlet for each."""

    def __init__(self) -> None:
        self.held: dict[str, Held] = {}
        self.greenlets = Group()

    def keep_up(self, is_stopping: Callable[[], bool]) -> None:
        """Take on batches that nobody advances, for as long as the worker lives."""
        while True:
            gevent.sleep(LOOK_SECONDS)
            try:
                if work.may_claim and not is_stopping():
                    self._take_on(is_stopping)
            except errors.Unavailable as error:
                log.warning("batches.wait", reason=error.message)
            except Exception:  # A greenlet's outermost door: the next look may do better.
                log.exception("batches.broke")

    def _take_on(self, is_stopping: Callable[[], bool]) -> None:
        most = MOST_AT_ONCE - len(self.held)
        for batch_id in batches.take_on(work.lease, list(self.held), most) if most else ():
            self.held[batch_id] = held = Held(batch_id, is_stopping)
            self.greenlets.spawn(self._advance, held)

    def wake(self) -> None:
        """Look at once: a line has ended here."""
        for held in self.held.values():
            held.woken.set()

    def stop(self) -> None:
        """Leave the batches to others, who do their last steps again."""
        self.greenlets.kill()

    def _advance(self, held: Held) -> None:
        try:
            while (pause := _try_step(held)) is not None:
                if held.woken.wait(pause):
                    gevent.sleep(MOMENT_SECONDS)
                held.woken.clear()
        finally:
            del self.held[held.id]


@cache
def keeper() -> Keeper:
    """Return this worker's keeper."""
    return Keeper()


def _try_step(held: Held) -> float | None:
    """Do what is to be done; return the seconds until there may be more, None where it is over."""
    if held.is_stopping():
        return None
    try:
        return _step(held)
    except NotOurs:
        return None
    except (errors.Unavailable, redis.RedisError) as error:
        log.warning("batch.waits", batch=held.id, reason=repr(error.__cause__ or error))
        return PAUSE_SECONDS
    except Exception:  # A greenlet's outermost door: the next try may do better.
        log.exception("batch.broke", batch=held.id)
        return BROKEN_SECONDS


def _step(held: Held) -> float | None:
    row = batches.get_one(held.id)
    match row.status:
        case BatchStatus.VALIDATING:
            batch_check.check(held, row)
            return 0
        case BatchStatus.IN_PROGRESS:
            return _go_on(held)
        case BatchStatus.CANCELLING:
            return _end_early(held)
        case BatchStatus.FINALIZING:
            batch_files.write(held, row)
            return 0
        case _:
            return _tidy_up(held)


def _go_on(held: Held) -> float:
    row, running = batch_lines.note_ended(held)
    ours = held.in_status(BatchStatus.IN_PROGRESS)
    if row.rest is None and time.time() >= row.expires_at:
        batches.stop_feeding(ours, BATCH_EXPIRED)
        return 0
    if row.rest is None and row.fed < row.total:
        batch_lines.feed(held, row, batch_lines.room(running))
        return PAUSE_SECONDS
    if running:
        return PAUSE_SECONDS
    batches.advance(ours, status=BatchStatus.FINALIZING.value, finalizing_at=time.time())
    return 0


def _end_early(held: Held) -> float:
    row, running = batch_lines.note_ended(held)
    if running:
        batch_lines.cancel_running(row.id)
        return PAUSE_SECONDS
    batch_files.write(held, row)
    return 0


def _tidy_up(held: Held) -> float | None:
    """Forget the lines of a batch that is over, some at a time."""
    ours = held.in_status(*OVER)
    if batches.forget_some_lines(ours):
        return 0
    batches.advance(ours, is_done=True)
    return None
