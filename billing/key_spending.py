"""What the calls of a limited key cost, counted on the key's own row: per UTC day and in all.

Only keys with a limit are counted. The account's row is locked before a key's is read or changed,
so a key's counts change one transaction at a time. On PostgreSQL, each statement after the wait for
that lock sees what the others have committed; the statement that waited would not.
"""

from dataclasses import dataclass, replace
from typing import Any, cast

from sqlalchemy import Connection, and_, bindparam, case, func, or_, select, update
from sqlmodel import col

import database
from billing.outcomes import ClaimedJob
from billing.pricing import Quote
from database.clock import now
from models.account import Key
from models.errors import KeyLimitReached
from models.job import IS_UNFINISHED, Job

DAY_SECONDS = 86_400


@dataclass(frozen=True)
class Room:
    """The credits that a limited key may still spend; None if it has no such limit."""

    in_all: int | None
    today: int | None
    #: Today, UTC, in days since 1970.
    day: int

    @property
    def credits(self) -> int:
        return min(credits for credits in (self.in_all, self.today) if credits is not None)

    def refusal(self, quote: Quote) -> KeyLimitReached:
        """Return the error for a call that costs more than this."""
        is_daily = self.today is not None and self.today == self.credits
        limit = "its daily limit, which begins anew at midnight UTC" if is_daily else "its limit"
        return KeyLimitReached(
            f"This call may cost {quote.min_to_start} credits, and this key has "
            f"{max(0, self.credits)} left of {limit}. Ask for less, or use another key."
        )


class _Counts:
    credit_limit: int | None
    daily_limit: int | None
    spent: int
    spent_day: int
    spent_on_day: int
    #: Unix seconds.
    now: float


_IS_KEY = col(Key.id) == bindparam("key")
_IS_LIMITED = select(col(Key.id)).where(
    _IS_KEY, or_(col(Key.credit_limit).is_not(None), col(Key.daily_limit).is_not(None))
)
_COUNTS: Any = select(
    *(col(Key.credit_limit), col(Key.daily_limit)),
    *(col(Key.spent), col(Key.spent_day), col(Key.spent_on_day)),
    now().label("now"),
).where(_IS_KEY)
_ON_DAY = case((col(Key.spent_day) == bindparam("day"), col(Key.spent_on_day)), else_=0)
_TAKE = (
    update(Key)
    # The condition and the update are one statement, so two calls cannot spend the same credit.
    .where(
        _IS_KEY,
        or_(
            col(Key.credit_limit).is_(None),
            col(Key.spent) + bindparam("credits") <= col(Key.credit_limit),
        ),
        or_(
            col(Key.daily_limit).is_(None),
            _ON_DAY + bindparam("credits") <= col(Key.daily_limit),
        ),
    )
    .values(
        spent=col(Key.spent) + bindparam("credits"),
        spent_on_day=_ON_DAY + bindparam("credits"),
        spent_day=bindparam("day"),
    )
)
_RECORD = (
    update(Key)
    .where(_IS_KEY)
    .values(
        spent=col(Key.spent) + bindparam("credits"),
        # The count of an earlier day is gone.
        spent_on_day=case(
            (
                col(Key.spent_day) == bindparam("day"),
                col(Key.spent_on_day) + bindparam("credits"),
            ),
            else_=col(Key.spent_on_day),
        ),
    )
)
_IS_COUNTED = col(Job.key_day).is_not(None)
_HELD = select(
    func.coalesce(func.sum(col(Job.held)), 0),
    func.coalesce(func.sum(case((col(Job.key_day) == bindparam("day"), col(Job.held)))), 0),
).where(
    col(Job.account_id) == bindparam("account"),
    col(Job.key_id) == bindparam("key"),
    IS_UNFINISHED,
    _IS_COUNTED,
)


def is_limited(connection: Connection, key_id: int) -> bool:
    """Tell whether what the key spends is counted."""
    return connection.execute(_IS_LIMITED, {"key": key_id}).first() is not None


def room(connection: Connection, key_id: int) -> Room:
    """Return what a limited key may still spend; to spend it, lock its account's row before."""
    counts = _read(connection, key_id)
    # A machine may be late: a day that has begun does not end again.
    day = max(int(counts.now // DAY_SECONDS), counts.spent_day)
    on_day = counts.spent_on_day if day == counts.spent_day else 0
    return Room(
        None if counts.credit_limit is None else counts.credit_limit - counts.spent,
        None if counts.daily_limit is None else counts.daily_limit - on_day,
        day,
    )


def left(key_id: int) -> int | None:
    """Return the credits that a key may still spend today; None if it is not limited."""

    def read_room(connection: Connection) -> int | None:
        return room(connection, key_id).credits if is_limited(connection, key_id) else None

    return database.run(read_room)


def once_released(connection: Connection, room: Room, account_id: int, key_id: int) -> Room:
    """Return the room that there will be if the key's running jobs cost nothing."""
    values = {"account": account_id, "key": key_id, "day": room.day}
    in_all, today = connection.execute(_HELD, values).one()
    return replace(
        room,
        in_all=None if room.in_all is None else room.in_all + int(in_all),
        today=None if room.today is None else room.today + int(today),
    )


def take(connection: Connection, key_id: int, credits: int, day: int) -> bool:
    """Count a hold of `credits` on `day`; return False if they are more than the key may spend."""
    values = {"key": key_id, "credits": credits, "day": day}
    return bool(connection.execute(_TAKE, values).rowcount)


def chargeable(connection: Connection, job: ClaimedJob, cost: int) -> int:
    """Return how much of a job's `cost` its key may spend. Its account's row is locked."""
    if job.key_id is None or job.key_day is None or cost <= job.held:
        return cost
    counts = _read(connection, job.key_id)
    most = cost
    if counts.credit_limit is not None:
        most = min(most, counts.credit_limit - counts.spent + job.held)
    if counts.daily_limit is not None:
        # Of an earlier day it is no longer known what else was spent.
        is_known = counts.spent_day == job.key_day
        most = min(most, job.held + (counts.daily_limit - counts.spent_on_day if is_known else 0))
    return max(most, job.held)


def record(connection: Connection, key_id: int | None, day: int | None, credits: int) -> None:
    """Add `credits` to what the key has spent; take them off if negative.

    They count for `day`, that of the job's hold. If it is None, the job was not counted.
    """
    if key_id is not None and day is not None and credits:
        connection.execute(_RECORD, {"key": key_id, "day": day, "credits": credits})


def _read(connection: Connection, key_id: int) -> _Counts:
    return cast("_Counts", connection.execute(_COUNTS, {"key": key_id}).one())


# ---- Audit ---------------------------------------------------------------------------------------


class WrongCount:
    """A key whose counts are not what its jobs say; credits in all and on its newest day."""

    key_id: int
    spent: int
    spent_on_day: int
    recomputed: int
    recomputed_on_day: int


def wrong_counts() -> list[WrongCount]:
    """Recompute from its jobs what each limited key has spent; return the keys that are wrong.

    One query reads both, so calls may go on meanwhile.
    """
    cost = func.coalesce(col(Job.charged), col(Job.held))
    on_day = case((col(Job.key_day) == col(Key.spent_day), cost), else_=0)
    spent = func.coalesce(func.sum(cost), 0)
    spent_on_day = func.coalesce(func.sum(on_day), 0)
    query: Any = (
        select(
            *(col(Key.id).label("key_id"), col(Key.spent), col(Key.spent_on_day)),
            *(spent.label("recomputed"), spent_on_day.label("recomputed_on_day")),
        )
        .outerjoin(Job, and_(col(Job.key_id) == col(Key.id), _IS_COUNTED))
        .group_by(col(Key.id))
        .having(or_(col(Key.spent) != spent, col(Key.spent_on_day) != spent_on_day))
        .order_by(col(Key.id))
    )
    return database.all(query, WrongCount)
