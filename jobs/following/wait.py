"""Waiting for a job: the bell, and the row for when the bell was missed."""

import math
import time
from dataclasses import replace
from enum import Enum

import orjson
import structlog

from billing import ledger
from jobs.lifecycle import store
from jobs.streaming.messages import Ended
from jobs.streaming.pubsub import RECONNECTED, Subscription
from models.errors import InternalError, Unavailable
from models.job import FINAL, Status

log = structlog.get_logger()

#: A waiter that hears nothing looks at its job's row this often: a bell can be missed.
LOOK_SECONDS = 5


class WaitInterrupted(Enum):
    """Why a wait ended before its job did."""

    HUNG_UP = "the client went away"
    STOPPING = "this process is stopping"


def wait_for_end(waiter: Subscription, seconds: float | None) -> Ended | WaitInterrupted | None:
    """Wait for a job's end; None after `seconds`, or the interruption put into `waiter.heard`."""
    deadline = time.monotonic() + seconds if seconds is not None else math.inf
    while (left := deadline - time.monotonic()) > 0:
        heard = waiter.get(min(LOOK_SECONDS, left))
        if isinstance(heard, WaitInterrupted):
            return heard
        if isinstance(heard, Ended):
            return _whole(waiter.job_id, heard)
        if heard is RECONNECTED or left > LOOK_SECONDS:
            ended = look_around(waiter.job_id)
            if ended is not None:
                return ended
    return None


def _whole(job_id: str, ended: Ended) -> Ended:
    """Fetch the answer that was too large to ride along with the bell."""
    if ended.status == Status.COMPLETED and ended.body is None:
        return replace(ended, body=store.result(job_id))
    return ended


def look_around(job_id: str) -> Ended | None:
    """Look at the row; None where the job has not ended, or that cannot be seen just now."""
    try:
        return look(job_id)
    except Unavailable as error:
        log.warning("waiting.blind", job=job_id, reason=str(error))
        return None


def look(job_id: str) -> Ended | None:
    """Read from SQL how a job ended; None where it has not."""
    row = store.find(job_id)
    if row is None:
        raise InternalError("The job's record is gone.")
    if row.status not in FINAL:
        return None
    body = store.result(job_id) if row.status == Status.COMPLETED else None
    record = orjson.loads(row.error) if row.error else None
    available = ledger.standing(row.account_id).available
    return Ended(row.status, store.source(row), row.charged, available, record, row.events, body)
