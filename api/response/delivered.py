"""Which answers reached their callers, written down in groups: one statement for many calls."""

import gevent
import structlog

from jobs.lifecycle import store
from models.errors import Unavailable

log = structlog.get_logger()

FLUSH_SECONDS = 0.5
#: Remembered at most while the database does not answer.
MAX_WAITING = 10_000

_waiting: list[str] = []
_flushing = False


def mark(job_id: str) -> None:
    """Note that a job's answer reached its caller; it is written within a second."""
    global _flushing
    if len(_waiting) < MAX_WAITING:
        _waiting.append(job_id)
    if not _flushing:
        _flushing = True
        gevent.spawn(_flush)


def _flush() -> None:
    global _flushing
    try:
        while _waiting:
            gevent.sleep(FLUSH_SECONDS)
            group = _waiting[:500]
            try:
                store.mark_delivered(group)
            except Unavailable as error:
                log.warning("handover.waits", reason=error.message)
            else:
                del _waiting[: len(group)]
    finally:
        _flushing = False
