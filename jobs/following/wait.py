"""Waiting for a job's end: by its message, or by its row in case the message was missed."""

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

#: A caller that receives nothing checks the job's row this often: a message can be missed.
POLL_SECONDS = 5


class WaitInterrupted(Enum):
    """Why a wait ended before its job did."""

    DISCONNECTED = "the client went away"
    STOPPING = "this process is stopping"


def wait_for_end(
    subscription: Subscription, seconds: float | None
) -> Ended | WaitInterrupted | None:
    """Wait for a job's end; return it, or what interrupted the wait, or None after `seconds`."""
    deadline = time.monotonic() + seconds if seconds is not None else math.inf
    while (left := deadline - time.monotonic()) > 0:
        message = subscription.get(min(POLL_SECONDS, left))
        if isinstance(message, WaitInterrupted):
            return message
        if isinstance(message, Ended):
            return _with_body(subscription.job_id, message)
        if message is RECONNECTED or left > POLL_SECONDS:
            ended = poll_end(subscription.job_id)
            if ended is not None:
                return ended
    return None


def _with_body(job_id: str, ended: Ended) -> Ended:
    """Fetch the answer if it was too large for the message."""
    if ended.status == Status.COMPLETED and ended.body is None:
        return replace(ended, body=store.result(job_id))
    return ended


def poll_end(job_id: str) -> Ended | None:
    """Return how a job ended; None if it has not, or if the database does not answer."""
    try:
        return _read_end(job_id)
    except Unavailable as error:
        log.warning("wait.database_unavailable", job=job_id, reason=str(error))
        return None


def _read_end(job_id: str) -> Ended | None:
    row = store.find(job_id)
    if row is None:
        raise InternalError("The job's record is gone.")
    if row.status not in FINAL:
        return None
    return Ended(
        row.status,
        store.source(row),
        row.charged,
        body=store.result(job_id) if row.status == Status.COMPLETED else None,
        error=orjson.loads(row.error) if row.error else None,
        available=ledger.standing(row.account_id).available,
        events=row.events,
    )
