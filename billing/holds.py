"""Holds: the credits a call may cost, set aside in the transaction that inserts its job."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update
from sqlmodel import col

import database
from billing import ledger, queue_limits
from billing.pricing import Quote
from billing.queue_limits import IS_NOT_LINE
from models.account import Account
from models.errors import CreditsHeld, InsufficientCredits, LikeDoError
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

    If `quote.max_credits` are not available, the hold is for less output, down to
    `quote.min_to_start`. If the account has `max_running` jobs of the kind queued or running, the
    job waits for a slot. `key_digest`, of an `Idempotency-Key`, lets retries find it. `body`, if
    given, is stored with it. Raises `Overloaded`, `InsufficientCredits`, `CreditsHeld` or what
    `check` returns; then nothing was written.
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
    max_tokens, credits = quote.max_output, quote.max_credits
    if not _take(connection, job["account_id"], credits):
        account = ledger.lock(connection, job["account_id"])
        reduced = quote.within(account.balance - account.held)
        if reduced is None or not _take(connection, job["account_id"], reduced[1]):
            return _refusal(quote, account.balance, account.held)
        max_tokens, credits = reduced
    # The account's row is locked by now, so no other job takes the same slot.
    has_slot = _running(connection, job["account_id"], job["kind"]) < max_running
    _insert(connection, job if has_slot else job | {"enqueued_at": None}, credits, max_tokens)
    if key_digest:
        _remember_digest(connection, job, key_digest)
    if body is not None:
        of_account = {"account_id": job["account_id"], "bytes": len(body)}
        connection.execute(insert(Body).values(job_id=job["id"], body=body, **of_account))
    return Hold(credits, max_tokens, has_slot)


def _insert(connection: Connection, job: dict[str, Any], credits: int, max_tokens: int) -> None:
    held = {"held": credits, "max_tokens": max_tokens, "status": Status.QUEUED.value}
    connection.execute(_INSERT_JOB, job | held)


def hold_line(
    connection: Connection, job: dict[str, Any], quote: Quote
) -> Hold | CreditsHeld | InsufficientCredits:
    """Insert a batch line as a job and hold for it, within the dispatcher's transaction.

    It needs no slot, and the queue is never too full for it. The hold is for less output only if
    the whole balance would not cover the most; credits held by other jobs are waited for.
    """
    account = ledger.lock(connection, job["account_id"])
    available = account.balance - account.held
    if available >= quote.max_credits:
        max_tokens, credits = quote.max_output, quote.max_credits
    elif account.balance < quote.max_credits and (reduced := quote.within(available)):
        max_tokens, credits = reduced
    else:
        return _refusal(quote, account.balance, account.held)
    _take(connection, job["account_id"], credits)
    _insert(connection, job, credits, max_tokens)
    return Hold(credits, max_tokens)


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
