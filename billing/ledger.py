"""Hold, settle, release: what a job may cost, what it did cost, and what is given back.

Each function here is one transaction. The job's row is the hold. Accounts are locked before
jobs, everywhere, so that no two transactions wait for each other. Whatever ends a job that has a
webhook puts that into the outbox, too.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import orjson
from sqlalchemy import Connection, Row, bindparam, delete, func, insert, select, text, update
from sqlmodel import col

from billing import pricing
from billing.pricing import Price, Terms
from config.catalog import ChatPrice
from config.settings import settings
from models import credit, database, errors, webhook
from models.account import Account
from models.chat import Usage
from models.credit import Entry
from models.database import now
from models.job import IS_QUEUED, IS_UNFINISHED, Body, Idempotency, Job, Result, Status
from models.webhook import Webhook

#: A key of the caller's own names a job for this long.
NAME_SECONDS = 24 * 3600
#: An answer is kept this long unless it is handed over sooner.
RESULT_SECONDS = 24 * 3600
#: That of a batch's line is forgotten when the batch is over; so long at the most.
LINE_RESULT_SECONDS = 30 * 24 * 3600


@dataclass(frozen=True)
class Hold:
    """What was held for a job: credits, and the output tokens of one choice they allow."""

    credits: int
    max_tokens: int
    #: Whether it has a place among the jobs of its account that may run; else it waits for one.
    has_place: bool = True


@dataclass(frozen=True)
class There:
    """The job that the caller's own key names already: nothing was held for another."""

    job_id: str


@dataclass(frozen=True)
class Asked:
    """Who was asked for an answer: a provider and its model, or nobody; and who was before."""

    provider: str | None = None
    upstream_model: str | None = None
    #: What it costs there, where that is not what the model costs that the job is for.
    price: Price | None = None
    #: Each time a provider was asked, this one included.
    trail: Sequence[Mapping[str, Any]] = ()

    def price_for(self, job: "Claimed") -> Price:
        return self.price or pricing.from_text(job.price)

    def columns(self, job: "Claimed") -> dict[str, Any]:
        """Return what the job's row says of it."""
        return {
            "provider": self.provider,
            "upstream_model": self.upstream_model,
            "price": pricing.as_text(self.price_for(job)),
            "trail": orjson.dumps(list(self.trail)).decode(),
        }


NOBODY = Asked()


class Delivery(Protocol):
    """What a job gave, and what that costs."""

    #: The answer as callers get it, without what was charged.
    @property
    def content(self) -> dict[str, Any]: ...
    @property
    def asked(self) -> Asked: ...

    #: Of a stream: the number of the last event before those that end it.
    @property
    def events(self) -> int | None: ...

    #: Whether callers get it even where the job was cancelled meanwhile.
    @property
    def outlasts_cancel(self) -> bool: ...

    def cost(self, job: "Claimed") -> int:
        """Return what it costs, in credits."""

    def usage_record(self) -> str:
        """Return what the provider reported of what it took, as the JSON that the job keeps."""


@dataclass(frozen=True)
class Answer:
    """What a chat gave: the completion, the tokens it used, and who was asked for it."""

    content: dict[str, Any]
    usage: Usage
    asked: Asked
    #: The provider reported nothing that could be charged.
    free: bool = False
    events: int | None = None

    outlasts_cancel = False

    def cost(self, job: "Claimed") -> int:
        price = self.asked.price_for(job)
        assert isinstance(price, ChatPrice)
        return 0 if self.free else pricing.chat(price, self.usage)

    def usage_record(self) -> str:
        return _usage_record(self.usage, self.content.get("usage"))


@dataclass(frozen=True)
class Images:
    """The images that are stored: what callers get to know of them, and their price together."""

    content: dict[str, Any]
    credits: int
    asked: Asked

    events = None
    outlasts_cancel = True

    def cost(self, job: "Claimed") -> int:
        return self.credits

    def usage_record(self) -> str:
        counted = self.content.get("usage") or {"images": len(self.content["data"])}
        return orjson.dumps(counted | {"estimated": False}).decode()


@dataclass(frozen=True)
class Settled:
    """A job that has been paid for: the answer as callers get it, and the credits."""

    body: bytes
    charged: int
    available: int
    #: Whether jobs of the account wait for the place that it leaves.
    others_wait: bool = False
    #: Whether its end is in the outbox of webhooks.
    has_webhook: bool = False


@dataclass(frozen=True)
class Claimed:
    """What a settle has to know of the job it ends."""

    id: str
    account_id: int
    attempt: int
    held: int
    price: str
    #: The batch that it is a line of.
    batch_id: str | None = None


def hold(
    job: dict[str, Any],
    terms: Terms,
    most_running: int = 10**9,
    name: str | None = None,
    body: bytes | None = None,
) -> Hold | There:
    """Insert `job` (columns of `Job`) as queued and hold the most it can cost.

    Where what is available does not afford `terms.most`, less output is held for, down to
    `terms.least`. Where `most_running` jobs of the account have a place to run, it waits for one.
    Under `name`, a digest of the caller's own key, retries find it. Its `body` is kept beside it
    where that is given. Raises `Overloaded`, `InsufficientCredits` or `CreditsHeld`; then nothing
    was written.
    """
    outcome = database.run(
        lambda connection: _hold(connection, job, terms, most_running, name, body)
    )
    if isinstance(outcome, errors.LikeDoError):
        raise outcome
    return outcome


def _hold(
    connection: Connection,
    job: dict[str, Any],
    terms: Terms,
    most_running: int,
    name: str | None,
    body: bytes | None,
) -> Hold | There | errors.LikeDoError:
    # A refusal is returned, not raised: on SQLite other transactions share this one's commit.
    # The queue's lock comes before the account's, everywhere.
    full = _overload(connection, job["body_bytes"])
    if name and (there := _there(connection, job, name)):
        return there
    if full:
        return full
    max_tokens, credits = terms.most_output, terms.most
    if not _take(connection, job["account_id"], credits):
        account = _lock(connection, job["account_id"])
        less = terms.within(account.balance - account.held)
        if less is None or not _take(connection, job["account_id"], less[1]):
            return _refusal(terms, account.balance, account.held)
        max_tokens, credits = less
    # The account's row is locked by now, so nobody takes the same place.
    has_place = _running(connection, job["account_id"], job["kind"]) < most_running
    _insert(connection, job if has_place else job | {"enqueued_at": None}, credits, max_tokens)
    if name:
        _name(connection, job, name)
    if body is not None:
        connection.execute(insert(Body).values(job_id=job["id"], body=body))
    return Hold(credits, max_tokens, has_place)


def _insert(connection: Connection, job: dict[str, Any], credits: int, max_tokens: int) -> None:
    held = {"held": credits, "max_tokens": max_tokens, "status": Status.QUEUED.value}
    connection.execute(_INSERT_JOB, job | held)


def hold_line(
    connection: Connection, job: dict[str, Any], terms: Terms
) -> Hold | errors.CreditsHeld | errors.InsufficientCredits:
    """Insert a batch's line as a job and hold for it, within the transaction of who feeds it.

    It needs no place, and the queue is never too full for it. It is held for less output only
    where the whole balance would not afford the most: what others hold is waited for.
    """
    account = _lock(connection, job["account_id"])
    available = account.balance - account.held
    if available >= terms.most:
        max_tokens, credits = terms.most_output, terms.most
    elif account.balance < terms.most and (less := terms.within(available)):
        max_tokens, credits = less
    else:
        return _refusal(terms, account.balance, account.held)
    _take(connection, job["account_id"], credits)
    _insert(connection, job, credits, max_tokens)
    return Hold(credits, max_tokens)


def _there(connection: Connection, job: dict[str, Any], name: str) -> There | None:
    """Return the job of that name, if the name still holds; wait for who is giving it just now."""
    _lock(connection, job["account_id"])
    mine = (col(Idempotency.key_id) == job["key_id"], col(Idempotency.name) == name)
    found = connection.execute(select(database.table(Idempotency)).where(*mine)).one_or_none()
    if found is not None and found.created > time.time() - NAME_SECONDS:
        return There(found.job_id)
    connection.execute(delete(Idempotency).where(*mine))
    return None


def _name(connection: Connection, job: dict[str, Any], name: str) -> None:
    connection.execute(
        insert(Idempotency).values(
            key_id=job["key_id"], name=name, job_id=job["id"], created=time.time()
        )
    )


# Statements are made once: making one costs ten times what running it does.
_TAKE = (
    update(Account)
    # The condition and the update are one statement, so two calls cannot spend the same credit.
    .where(
        col(Account.id) == bindparam("account"),
        col(Account.balance) - col(Account.held) >= bindparam("credits"),
    )
    .values(held=col(Account.held) + bindparam("credits"))
)
_LOCK = database.locked(
    select(col(Account.id), col(Account.balance), col(Account.held), col(Account.chain)).where(
        col(Account.id) == bindparam("account")
    )
)
#: Lines of batches are fed as there is room: they stand in nobody's way.
_IS_NO_LINE = col(Job.batch_id).is_(None)
_WAITING = select(func.count(), func.coalesce(func.sum(col(Job.body_bytes)), 0)).where(
    IS_QUEUED, _IS_NO_LINE
)
_MOVE = (
    update(Account)
    .where(col(Account.id) == bindparam("account"))
    .values(
        balance=bindparam("new_balance"), held=bindparam("new_held"), chain=bindparam("new_chain")
    )
)
_UNFINISHED = (
    col(Job.account_id) == bindparam("account"),
    IS_UNFINISHED,
    _IS_NO_LINE,
)
_RUNNING = select(func.count()).where(
    *_UNFINISHED, col(Job.enqueued_at).is_not(None), col(Job.kind) == bindparam("kind")
)
_WAITS = select(col(Job.id)).where(*_UNFINISHED, col(Job.enqueued_at).is_(None)).limit(1)
_INSERT_JOB = insert(Job)
_INSERT_ENTRY = insert(Entry)
_INSERT_RESULT = insert(Result)
# When it is due is read by the database's clock, on whichever machine.
_INSERT_WEBHOOK = insert(Webhook).values(next_at=now(), tries=0)


def _take(connection: Connection, account_id: int, credits: int) -> bool:
    taken = connection.execute(_TAKE, {"account": account_id, "credits": credits})
    return bool(taken.rowcount)


def _running(connection: Connection, account_id: int, kind: str) -> int:
    """Return how many jobs of the account and kind run, or are in the queue to."""
    found = connection.execute(_RUNNING, {"account": account_id, "kind": kind})
    return int(found.scalar_one())


def others_wait(connection: Connection, account_id: int) -> bool:
    """Tell whether jobs of the account wait for a place to run."""
    return connection.execute(_WAITS, {"account": account_id}).first() is not None


def _lock(connection: Connection, account_id: int) -> Any:
    return connection.execute(_LOCK, {"account": account_id}).one()


#: Any number, the same for every process: it names the lock.
_QUEUE_LOCK = text("SELECT pg_advisory_xact_lock(7203115)")
#: On PostgreSQL, transactions side by side do not see what the others insert. This many of up to
#: this size each may be under way; where they could pass a limit, and for every larger body,
#: holds are taken one after the other.
SIDE_BY_SIDE, SMALL_BYTES = 200, 64 * 1024


def _overload(connection: Connection, body_bytes: int) -> errors.Overloaded | None:
    """Say why the queue takes no more. What waits is counted where it is true: in SQL."""
    depth, size = connection.execute(_WAITING).one()
    near = (
        body_bytes > SMALL_BYTES
        or depth + SIDE_BY_SIDE >= settings.max_queue_depth
        or size + SIDE_BY_SIDE * SMALL_BYTES > settings.max_queue_bytes
    )
    if near and connection.dialect.name == "postgresql":
        # From here on the others wait, and what those before them inserted can be seen.
        connection.execute(_QUEUE_LOCK)
        depth, size = connection.execute(_WAITING).one()
    if depth >= settings.max_queue_depth:
        return errors.Overloaded("Too many requests are waiting just now. Try again shortly.")
    if size + body_bytes > settings.max_queue_bytes:
        return errors.Overloaded("Too much data is waiting just now. Try again shortly.")
    return None


_WAY_OUT = {
    True: "Lower max_tokens or add credits.",
    False: "Ask for fewer images or add credits.",
}


def _refusal(
    terms: Terms, balance: int, held: int
) -> errors.CreditsHeld | errors.InsufficientCredits:
    need = f"This call may cost {terms.least} credits"
    if balance >= terms.least:
        return errors.CreditsHeld(
            f"{need}; {balance - held} of your {balance} are available while calls that are "
            "running hold the rest. Try again when one has ended."
        )
    return errors.InsufficientCredits(
        f"{need}; your balance is {balance}. {_WAY_OUT[terms.most_output > 0]}"
    )


def settle(job: Claimed, answer: Delivery) -> Settled | None:
    """Store the answer, charge its real cost and give the rest of the hold back, all in one.

    Returns None where the job is no longer this attempt's to end; then nothing was written.
    What the cost exceeds the hold by is taken from what is available, and what even that does
    not cover is written off.
    """
    cost = answer.cost(job)
    # The body is ready before the transaction begins; only a write-off makes it say otherwise.
    body = _body(answer, cost)
    columns = {"status": Status.COMPLETED.value, **_columns(job, answer)}

    def work(connection: Connection) -> Settled | None:
        charge = _charge(connection, job, cost, columns)
        if charge is None:
            return None
        kept = body if charge.charged == cost else _body(answer, charge.charged)
        _keep(connection, job, kept)
        return replace(charge, body=kept)

    return database.run(work)


def settle_cancelled(job: Claimed, used: Delivery, error: errors.LikeDoError) -> Settled | None:
    """End a job that was cancelled after its provider was called, and charge what it `used`.

    What outlasts that is kept for its caller, as an answer is.
    """
    cost = used.cost(job)
    columns = {
        "status": Status.CANCELLED.value,
        **_columns(job, used),
        "error": orjson.dumps(error.as_record()).decode(),
    }

    def work(connection: Connection) -> Settled | None:
        charge = _charge(connection, job, cost, columns)
        if charge is not None and used.outlasts_cancel:
            _keep(connection, job, _body(used, charge.charged))
        return charge

    return database.run(work)


def _columns(job: Claimed, answer: Delivery) -> dict[str, Any]:
    asked = answer.asked.columns(job)
    return {**asked, "usage": answer.usage_record(), "events": answer.events}


def _keep(connection: Connection, job: Claimed, body: bytes) -> None:
    seconds = RESULT_SECONDS if job.batch_id is None else LINE_RESULT_SECONDS
    result = {"job_id": job.id, "body": body, "expires_at": time.time() + seconds}
    connection.execute(_INSERT_RESULT, result)


def _charge(
    connection: Connection, job: Claimed, cost: int, columns: dict[str, Any]
) -> Settled | None:
    """End a claimed job and charge `cost` for it, or what the account can spend of that."""
    account = _lock(connection, job.account_id)
    spendable = account.balance - account.held + job.held
    charged = min(cost, spendable)
    ended = _end(connection, job, charged=charged, **columns)
    if ended is None:
        return None
    _record(connection, account, job.held, _movements(cost, charged), job.id)
    wait = others_wait(connection, job.account_id)
    return Settled(b"", charged, spendable - charged, wait, bool(ended.webhook_url))


def _body(answer: Delivery, charged: int) -> bytes:
    return orjson.dumps(answer.content | {"credits_consumed": charged})


def _usage_record(usage: Usage, shown: dict[str, Any] | None = None) -> str:
    return orjson.dumps((shown or usage.as_json()) | {"estimated": usage.estimated}).decode()


def _movements(cost: int, charged: int) -> list[tuple[str, int]]:
    """Return the ledger's entries for a cost: what is written off comes in before it goes out."""
    written_off = [("write_off", cost - charged)] if cost > charged else []
    return written_off + ([("charge", -cost)] if cost else [])


def fail(
    job: Claimed,
    error: errors.LikeDoError,
    asked: Asked = NOBODY,
    status: Status = Status.FAILED,
    events: int | None = None,
) -> Settled | None:
    """End a claimed job with `error`, free of charge. None where it was no longer ours to end."""
    columns = {
        "status": status.value,
        "events": events,
        **asked.columns(job),
        "error": orjson.dumps(error.as_record()).decode(),
    }
    return database.run(lambda connection: _release(connection, job, columns))


def _release(connection: Connection, job: Claimed, columns: dict[str, Any]) -> Settled | None:
    account = _lock(connection, job.account_id)
    ended = _end(connection, job, charged=0, **columns)
    if ended is None:
        return None
    _give_back(connection, job.account_id, job.held)
    available = account.balance - account.held + job.held
    wait = others_wait(connection, job.account_id)
    return Settled(b"", 0, available, wait, bool(ended.webhook_url))


#: What is asked back of a job that was brought to its end.
_ENDED: tuple[Any, ...] = (
    col(Job.id),
    col(Job.account_id),
    col(Job.status),
    col(Job.finished_at),
    col(Job.webhook_url),
)
# Guarded by state and attempt: a job is ended once, and by nobody but the attempt that runs it.
_END = (
    update(Job)
    .where(
        col(Job.id) == bindparam("job"),
        col(Job.status) == Status.IN_PROGRESS.value,
        col(Job.attempts) == bindparam("attempt"),
    )
    .values(
        {
            name: bindparam(f"new_{name}")
            for name in (
                "status",
                "finished_at",
                "charged",
                "provider",
                "upstream_model",
                "price",
                "trail",
                "usage",
                "error",
                "events",
            )
        }
    )
    .returning(*_ENDED)
)


def _end(connection: Connection, job: Claimed, **columns: Any) -> Row[Any] | None:
    """Bring a claimed job to its end, and return its row; None where it is not this attempt's."""
    unsaid = ("usage", "error", "events")
    new = dict.fromkeys(unsaid) | columns | {"finished_at": time.time()}
    values = {f"new_{name}": value for name, value in new.items()}
    values |= {"job": job.id, "attempt": job.attempt}
    ended = connection.execute(_END, values).one_or_none()
    if ended is not None:
        _put_in_outbox(connection, ended)
    return ended


def _put_in_outbox(connection: Connection, ended: Row[Any]) -> None:
    """Have a job's end told to its webhook, where it has one; `ended` is what `_ENDED` names."""
    if ended.webhook_url is None:
        return
    message = {
        "id": webhook.make_id(),
        "account_id": ended.account_id,
        "job_id": ended.id,
        "type": f"job.{ended.status}",
        "url": ended.webhook_url,
        "host": webhook.host_of(ended.webhook_url),
        "created": ended.finished_at,
    }
    connection.execute(_INSERT_WEBHOOK, message)


def end_unclaimed(
    job_id: str, status: Status, error: errors.LikeDoError, events: int | None = None
) -> bool:
    """End a job that no worker has, free of charge. False where one has it, or it has ended."""
    record = orjson.dumps(error.as_record()).decode()
    columns = {"status": status, "error": record, "events": events}
    return database.run(lambda connection: _end_waiting(connection, job_id, **columns))


def _end_waiting(connection: Connection, job_id: str, **columns: Any) -> bool:
    row = connection.execute(
        select(col(Job.account_id), col(Job.held)).where(col(Job.id) == job_id)
    ).one_or_none()
    if row is None:
        return False
    _lock(connection, row.account_id)
    ended = connection.execute(
        update(Job)
        .where(col(Job.id) == job_id, col(Job.status) == Status.QUEUED)
        .values(finished_at=time.time(), charged=0, **columns)
        .returning(*_ENDED)
    ).one_or_none()
    if ended is None:
        return False
    _give_back(connection, row.account_id, row.held)
    _put_in_outbox(connection, ended)
    return True


def _give_back(connection: Connection, account_id: int, credits: int) -> None:
    connection.execute(
        update(Account)
        .where(col(Account.id) == account_id)
        .values(held=col(Account.held) - credits)
    )


def grant(account_id: int, credits: int, reason: str = "") -> int:
    """Add `credits` (or take them, if negative) by the operator's hand; return the new balance.

    Raises `InsufficientCredits` where the balance would fall below what is held.
    """

    def work(connection: Connection) -> int | None:
        account = _lock(connection, account_id)
        if account.balance + credits < account.held:
            return None
        _record(connection, account, 0, [("grant", credits)], None, reason)
        return int(account.balance) + credits

    balance = database.run(work, repeatable=False)
    if balance is None:
        raise errors.InsufficientCredits(
            "The balance cannot fall below zero, or below what running calls hold."
        )
    return balance


def _record(
    connection: Connection,
    account: Any,
    released: int,
    movements: list[tuple[str, int]],
    job_id: str | None,
    reason: str = "",
) -> None:
    """Append `movements` to the locked account's chain, and bring its balance and hold along."""
    balance, previous = account.balance, account.chain
    for kind, credits in movements:
        balance += credits
        link = credit.chain(previous, account.id, job_id, kind, credits, balance, reason)
        connection.execute(
            _INSERT_ENTRY,
            {
                "account_id": account.id,
                "job_id": job_id,
                "kind": kind,
                "credits": credits,
                "balance_after": balance,
                "reason": reason,
                "created": time.time(),
                "previous_hash": previous,
                "hash": link,
            },
        )
        previous = link
    connection.execute(
        _MOVE,
        {
            "account": account.id,
            "new_balance": balance,
            "new_held": account.held - released,
            "new_chain": previous,
        },
    )


@dataclass(frozen=True)
class Standing:
    """What an account has, in credits."""

    balance: int
    held: int

    @property
    def available(self) -> int:
        return self.balance - self.held


def standing(account_id: int) -> Standing:
    """Return what the account has."""

    def work(connection: Connection) -> Standing:
        row = connection.execute(
            select(col(Account.balance), col(Account.held)).where(col(Account.id) == account_id)
        ).one()
        return Standing(row.balance, row.held)

    return database.run(work)


def entries(account_id: int, newest: int | None = None) -> list[Row[Any]]:
    """Return an account's ledger, the oldest entry first: all of it, or the `newest` so many."""
    query = select(*_ENTRY).where(col(Entry.account_id) == account_id)
    query = query.order_by(col(Entry.id).desc()).limit(newest)
    return database.run(lambda connection: list(connection.execute(query))[::-1])


def entries_of(job_id: str) -> list[Row[Any]]:
    """Return the entries that a job has made, the oldest first."""
    query = select(*_ENTRY).where(col(Entry.job_id) == job_id).order_by(col(Entry.id))
    return database.run(lambda connection: list(connection.execute(query)))


_ENTRY: tuple[Any, ...] = (
    col(Entry.id),
    col(Entry.kind),
    col(Entry.credits),
    col(Entry.balance_after),
    col(Entry.created),
    col(Entry.job_id),
    col(Entry.reason),
)
