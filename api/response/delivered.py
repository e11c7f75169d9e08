"""Which answers reached their callers, recorded in groups: one statement for many calls."""

import gevent
import structlog

from jobs.lifecycle import store
from models.errors import Unavailable

log = structlog.get_logger()

FLUSH_SECONDS = 0.5
#: Job ids kept in memory while the database does not answer; further ones are dropped.
MAX_PENDING = 10_000
#: Job ids in one statement.
GROUP_SIZE = 500

_pending: list[str] = []
_flushing = False


def mark(job_id: str) -> None:
    """Note that a job's answer reached its caller; it is recorded within a second."""
    global _flushing
    if len(_pending) < MAX_PENDING:
        _pending.append(job_id)
    if not _flushing:
        _flushing = True
        gevent.spawn(_flush)


def _flush() -> None:
    global _flushing
    try:
        while _pending:
            gevent.sleep(FLUSH_SECONDS)
            group = _pending[:GROUP_SIZE]
            try:
                store.mark_delivered(group)
            except Unavailable as error:
                log.warning("delivered.record_delayed", reason=error.message)
            else:
                del _pending[: len(group)]
    finally:
        _flushing = False
