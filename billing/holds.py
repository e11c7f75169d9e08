"""Holds: the credits a call may cost, set aside in the transaction that inserts its job."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update
from sqlmodel import col

import database
from billing import key_spending, ledger, queue_limits
from billing.pricing import Quote
from billing.queue_limits import IS_NOT_LINE
from models.account import Account
from models.errors import CreditsHeld, InsufficientCredits, KeyLimitReached, LikeDoError
from models.job import IS_UNFINISHED, Body, Idempotency, Job, Status

#: An `Idempotency-Key` refers to a job for this long.
IDEMPOTENCY_SECONDS = 24 * 3600


#: Locks the account, and returns the error that refuses a job, if there is one.
Check = Callable[[Connection], LikeDoError | None]


@dataclass(frozen=True)
class Hold:
    """What was held for a job: credits, and the output tokens per choice that they allow."""

    credits: int
    max_tokens: int
    #: Whether it has one of its account's concurrency slots; otherwise it waits for one.
    has_slot: bool = True


@dataclass(frozen=True)
class ExistingJob:
    """The job that the `Idempotency-Key` already refers to; nothing was held for another."""

    job_id: str


def hold(
    job: dict[str, Any],
    quote: Quote,
    max_running: int = 10**9,
    key_digest: str | None = None,
    body: bytes | None = None,
    check: Check | None = None,
) -> Hold | ExistingJob:
    """Insert `job` (columns of `Job`) as queued and hold the most it can cost.

    If `quote.max_credits` are not available, or more than the key may spend, the hold is for less
    output, down to `quote.min_to_start`. If the account has `max_running` jobs of the kind queued
    or running, the job waits for a slot. `key_digest`, of an `Idempotency-Key`, lets retries find
    it. `body`, if given, is stored with it. Raises `Overloaded`, `InsufficientCredits`,
    `CreditsHeld`, `KeyLimitReached` or what `check` returns; then nothing was written.
    """
    outcome = database.run(
        lambda connection: _hold(connection, job, quote, max_running, key_digest, body, check)
    )
    if isinstance(outcome, LikeDoError):
        raise outcome
    return outcome


def _hold(
    connection: Connection,
    job: dict[str, Any],
    quote: Quote,
    max_running: int,
    key_digest: str | None,
    body: bytes | None,
    check: Check | None,
) -> Hold | ExistingJob | LikeDoError:
    # A refusal is returned, not raised: on SQLite other transactions share this one's commit.
    # Everywhere, the queue's lock is taken before the account's.
    overload = queue_limits.overload(connection, job["account_id"], job["body_bytes"])
    if key_digest and (existing := _existing(connection, job, key_digest)):
        return existing
    if refusal := overload or (check and check(connection)):
        return refusal
    taken = _take_credits(connection, job, quote)
    if isinstance(taken, LikeDoError):
        return taken
    # The account's row is locked by now, so no other job takes the same slot.
    has_slot = _running(connection, job["account_id"], job["kind"]) < max_running
    _insert(connection, job if has_slot else job | {"enqueued_at": None}, taken)
    if key_digest:
        _remember_digest(connection, job, key_digest)
    if body is not None:
        of_account = {"account_id": job["account_id"], "bytes": len(body)}
        connection.execute(insert(Body).values(job_id=job["id"], body=body, **of_account))
    return Hold(taken.credits, taken.max_tokens, has_slot)


@dataclass(frozen=True)
class _Taken:
    """What was taken for a job, from its account and, on a UTC day, from its key's limits."""

    max_tokens: int
    credits: int
    key_day: int | None = None


def _take_credits(
    connection: Connection, job: dict[str, Any], quote: Quote
) -> _Taken | LikeDoError:
    if key_spending.is_limited(connection, job["key_id"]):
        return _take_within_key(connection, job, quote)
    if _take(connection, job["account_id"], quote.max_credits):
        return _Taken(quote.max_output, quote.max_credits)
    account = ledger.lock(connection, job["account_id"])
    reduced = quote.within(account.balance - account.held)
    if reduced is None or not _take(connection, job["account_id"], reduced[1]):
        return _refusal(quote, account.balance, account.held)
    return _Taken(*reduced)


def _take_within_key(
    connection: Connection, job: dict[str, Any], quote: Quote
) -> _Taken | LikeDoError:
    account = ledger.lock(connection, job["account_id"])
    room = key_spending.room(connection, job["key_id"])
    if _affordable(quote, room.credits) is None:
        return room.refusal(quote)
    affordable = _affordable(quote, min(room.credits, account.balance - account.held))
    if affordable is None:
        return _refusal(quote, account.balance, account.held)
    max_tokens, credits = affordable
    if not key_spending.take(connection, job["key_id"], credits, room.day):
        return room.refusal(quote)
    _take(connection, job["account_id"], credits)
    return _Taken(max_tokens, credits, room.day)


def _affordable(quote: Quote, credits: int) -> tuple[int, int] | None:
    """Return the output tokens that `credits` can buy, at most all, and the credits to hold."""
    if quote.max_credits <= credits:
        return quote.max_output, quote.max_credits
    return quote.within(credits)


def _insert(connection: Connection, job: dict[str, Any], taken: _Taken) -> None:
    held = {"held": taken.credits, "max_tokens": taken.max_tokens, "key_day": taken.key_day}
    connection.execute(_INSERT_JOB, job | held | {"status": Status.QUEUED.value})


def hold_line(
    connection: Connection, job: dict[str, Any], quote: Quote
) -> Hold | CreditsHeld | InsufficientCredits | KeyLimitReached:
    """Insert a batch line as a job and hold for it, within the dispatcher's transaction.

    It needs no slot, and the queue is never too full for it. The hold is for less output only if
    the whole balance, or all that the key may spend, would not cover the most; credits held by
    other jobs are waited for.
    """
    account = ledger.lock(connection, job["account_id"])
    total, available, key_day = account.balance, account.balance - account.held, None
    if key_spending.is_limited(connection, job["key_id"]):
        room = key_spending.room(connection, job["key_id"])
        released = key_spending.once_released(connection, room, job["account_id"], job["key_id"])
        if _affordable(quote, released.credits) is None:
            return released.refusal(quote)
        total, available = min(total, released.credits), min(available, room.credits)
        key_day = room.day
    if available >= quote.max_credits:
        taken = _Taken(quote.max_output, quote.max_credits, key_day)
    elif total < quote.max_credits and (reduced := quote.within(available)):
        taken = _Taken(*reduced, key_day)
    else:
        return _refusal(quote, account.balance, account.held)
    if key_day is not None and not key_spending.take(
        connection, job["key_id"], taken.credits, key_day
    ):
        return room.refusal(quote)
    _take(connection, job["account_id"], taken.credits)
    _insert(connection, job, taken)
    return Hold(taken.credits, taken.max_tokens)


def _existing(connection: Connection, job: dict[str, Any], key_digest: str) -> ExistingJob | None:
    """Return the job of an `Idempotency-Key`; wait if another request is using the key just now."""
    ledger.lock(connection, job["account_id"])
    is_key = (col(Idempotency.key_id) == job["key_id"], col(Idempotency.name) == key_digest)
    query = select(database.table(Idempotency)).where(*is_key)
    row = database.one(query, Idempotency, connection)
    if row is not None and row.created > time.time() - IDEMPOTENCY_SECONDS:
        return ExistingJob(row.job_id)
    connection.execute(delete(Idempotency).where(*is_key))
    return None


def _remember_digest(connection: Connection, job: dict[str, Any], key_digest: str) -> None:
    connection.execute(
        insert(Idempotency).values(
            key_id=job["key_id"], name=key_digest, job_id=job["id"], created=time.time()
        )
    )


# Statements are built once: building one costs ten times what running it does.
_TAKE = (
    update(Account)
    # The condition and the update are one statement, so two calls cannot spend the same credit.
    .where(
        col(Account.id) == bindparam("account"),
        col(Account.balance) - col(Account.held) >= bindparam("credits"),
    )
    .values(held=col(Account.held) + bindparam("credits"))
)
_UNFINISHED = (
    col(Job.account_id) == bindparam("account"),
    IS_UNFINISHED,
    IS_NOT_LINE,
)
_RUNNING = select(func.count()).where(
    *_UNFINISHED, col(Job.enqueued_at).is_not(None), col(Job.kind) == bindparam("kind")
)
_WAITS = select(col(Job.id)).where(*_UNFINISHED, col(Job.enqueued_at).is_(None)).limit(1)
_INSERT_JOB = insert(Job)


def _take(connection: Connection, account_id: int, credits: int) -> bool:
    result = connection.execute(_TAKE, {"account": account_id, "credits": credits})
    return bool(result.rowcount)


def _running(connection: Connection, account_id: int, kind: str) -> int:
    """Return how many jobs of the account and kind are running or in the queue."""
    count = connection.execute(_RUNNING, {"account": account_id, "kind": kind}).scalar_one()
    return int(count)


def has_waiting_jobs(connection: Connection, account_id: int) -> bool:
    """Tell whether jobs of the account wait for a slot."""
    return connection.execute(_WAITS, {"account": account_id}).first() is not None


_ADVICE = {
    True: "Lower max_tokens or add credits.",
    False: "Ask for fewer images or add credits.",
}


def _refusal(quote: Quote, balance: int, held: int) -> CreditsHeld | InsufficientCredits:
    cost = f"This call may cost {quote.min_to_start} credits"
    if balance >= quote.min_to_start:
        return CreditsHeld(
            f"{cost}; {balance - held} of your {balance} are available while calls that are "
            "running hold the rest. Try again when one has ended."
        )
    return InsufficientCredits(
        f"{cost}; your balance is {balance}. {_ADVICE[quote.max_output > 0]}"
    )
