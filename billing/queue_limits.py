"""The limits of the queue: how much may wait in all, and how much of it may be one account's."""

from typing import cast

from sqlalchemy import ColumnElement, Connection, Subquery, bindparam, func, select, text, true
from sqlmodel import col

from billing import ledger
from config.settings import settings
from models.errors import Overloaded
from models.job import IS_QUEUED, Job

#: What one account may have waiting: this part of the queue, of its depth and of its bytes.
SHARES = 4
#: An account with nothing waiting is let in up to so many times the limits, so that accounts which
#: fill their shares cannot shut out another.
NEWCOMER_FACTOR = 2

#: The number identifies the lock; any will do, if every process uses the same.
_QUEUE_LOCK = text("SELECT pg_advisory_xact_lock(7203115)")
#: On PostgreSQL, concurrent transactions do not see each other's inserts. This many, of up to this
#: size each, may be in progress; if they could exceed a limit, and for every larger body, holds are
#: taken one at a time.
CONCURRENT_HOLDS, SMALL_BYTES = 200, 64 * 1024

#: Batch lines are dispatched as there is room, so they never count against other jobs.
IS_NOT_LINE = col(Job.batch_id).is_(None)


def _waiting(name: str, *conditions: ColumnElement[bool]) -> Subquery:
    return (
        select(
            func.count().label(f"{name}_depth"),
            func.coalesce(func.sum(col(Job.body_bytes)), 0).label(f"{name}_bytes"),
        )
        .where(IS_QUEUED, IS_NOT_LINE, *conditions)
        .subquery(name)
    )


_OWN, _TOTAL = _waiting("own", col(Job.account_id) == bindparam("account")), _waiting("total")
# One statement, whose two parts have one row each; the index `jobs_waiting` holds all they read.
_WAITING = select(_OWN, _TOTAL).select_from(_OWN.join(_TOTAL, true()))


class _Waiting:
    """What is queued: by the account and by all, in jobs and in bytes of their bodies."""

    own_depth: int
    own_bytes: int
    total_depth: int
    total_bytes: int


def overload(connection: Connection, account_id: int, body_bytes: int) -> Overloaded | None:
    """Return the error for a body that does not fit in the queue. SQL has the truth.

    On PostgreSQL it may lock the queue, and then the account: the order is the same everywhere.
    """
    waiting = _count(connection, account_id)
    if connection.dialect.name == "postgresql" and _lock(
        connection, account_id, waiting, body_bytes
    ):
        # From here on other holds wait, and what earlier ones inserted is visible.
        waiting = _count(connection, account_id)
    if waiting.own_depth:
        return _over_share(waiting, body_bytes) or _over_total(waiting, body_bytes)
    return _over_total(waiting, body_bytes, NEWCOMER_FACTOR)


def _count(connection: Connection, account_id: int) -> _Waiting:
    return cast("_Waiting", connection.execute(_WAITING, {"account": account_id}).one())


def _lock(connection: Connection, account_id: int, waiting: _Waiting, body_bytes: int) -> bool:
    """Lock whatever limit concurrent holds could exceed; return False if they cannot."""
    is_large = body_bytes > SMALL_BYTES
    queue = is_large or _is_near(waiting.total_depth, waiting.total_bytes, 1)
    share = is_large or _is_near(waiting.own_depth, waiting.own_bytes, SHARES)
    if queue:
        connection.execute(_QUEUE_LOCK)
    if share:
        ledger.lock(connection, account_id)
    return queue or share


def _is_near(depth: int, size: int, shares: int) -> bool:
    return (
        depth + CONCURRENT_HOLDS >= settings.max_queue_depth // shares
        or size + CONCURRENT_HOLDS * SMALL_BYTES > settings.max_queue_bytes // shares
    )


def _over_share(waiting: _Waiting, body_bytes: int) -> Overloaded | None:
    max_bytes = settings.max_queue_bytes // SHARES
    if waiting.own_depth >= max(1, settings.max_queue_depth // SHARES):
        return Overloaded(
            f"Your account has {waiting.own_depth} calls waiting, as many as one account may have. "
            "Try again when some of them have begun."
        )
    if waiting.own_bytes + body_bytes > max_bytes:
        return Overloaded(
            f"Your account's waiting calls hold {waiting.own_bytes} bytes; with the {body_bytes} "
            f"of this one they would exceed the {max_bytes} that one account may have waiting. "
            "Try again when some of them have begun."
        )
    return None


def _over_total(waiting: _Waiting, body_bytes: int, factor: int = 1) -> Overloaded | None:
    if waiting.total_depth >= factor * settings.max_queue_depth:
        return Overloaded("Too many requests are waiting just now. Try again shortly.")
    if waiting.total_bytes + body_bytes > factor * settings.max_queue_bytes:
        return Overloaded("Too much data is waiting just now. Try again shortly.")
    return None
