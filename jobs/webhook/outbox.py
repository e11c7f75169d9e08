"""The outbox of webhooks: messages that wait for a try, claimed by one worker at a time.

Settlement puts a message here in the transaction that ends its job. A worker claims it by moving
its next try ahead; if the worker dies, the message is due again then.
"""

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from typing import Any, cast

import orjson
from sqlalchemy import (
    ColumnElement,
    Connection,
    bindparam,
    exists,
    func,
    literal_column,
    select,
    update,
)
from sqlmodel import col

import database
from access.accounts import read_webhook_secret
from database.clock import now
from jobs.lifecycle import store, view
from models.webhook import EXPIRY_SECONDS, Webhook

#: A try that was not recorded after this is taken for lost: longer than any try takes.
CLAIM_SECONDS = 60
#: What one worker sends at a time: in all, for one account, and to one receiver. A slow receiver
#: delays only its own webhooks, and an account with many slow receivers only its own.
MAX_SENDING, MAX_PER_ACCOUNT, MAX_PER_RECEIVER = 200, 3, 2
#: Due messages that are read to choose from, and of each account if there are more than that.
PAGE_SIZE, ACCOUNT_PAGE_SIZE = 500, 20
#: Accounts that are read then, the next time the ones after them.
ACCOUNTS_AT_A_TIME = 70
#: Accounts that are looked at for that: of most, nothing may be due.
MAX_PASSED_ACCOUNTS = 500


class _Due:
    """The columns of a due message by which it is chosen."""

    id: str
    account_id: int
    host: str
    next_at: float


_IS_WAITING = col(Webhook.next_at).is_not(None)
_ALL_DUE = select(
    col(Webhook.id), col(Webhook.account_id), col(Webhook.host), col(Webhook.next_at)
).where(col(Webhook.next_at) <= now())
_OLDEST_DUE = _ALL_DUE.order_by(col(Webhook.next_at)).limit(PAGE_SIZE)
_DUE_OF_ACCOUNT = _ALL_DUE.where(col(Webhook.account_id) == bindparam("account"))
_OLDEST_OF_ACCOUNT = _DUE_OF_ACCOUNT.order_by(col(Webhook.next_at)).limit(ACCOUNT_PAGE_SIZE)
_NEWEST_OF_ACCOUNT = _DUE_OF_ACCOUNT.order_by(col(Webhook.next_at).desc()).limit(ACCOUNT_PAGE_SIZE)


def _next_account(after: Any) -> Any:
    query = select(func.min(col(Webhook.account_id)).label("account_id"))
    return query.where(_IS_WAITING, col(Webhook.account_id) > after)


def _accounts() -> Any:
    """Return the query for the next accounts with waiting messages, by one look-up for each."""
    number: Any = literal_column("1")
    walk = _next_account(bindparam("after")).add_columns(number.label("number"))
    walk = walk.cte("walk", recursive=True)
    account, count = walk.c.account_id, walk.c.number
    further = select(_next_account(account).scalar_subquery(), count + 1)
    walk = walk.union_all(further.where(account.is_not(None), count < MAX_PASSED_ACCOUNTS))
    account = walk.c.account_id
    is_due = exists().where(col(Webhook.account_id) == account, col(Webhook.next_at) <= now())
    return select(account, is_due.label("is_due")).where(account.is_not(None))


_ACCOUNTS = _accounts()
_CLAIM = (
    update(Webhook)
    # If two workers choose the same message, the later one finds that it is not due any more.
    .where(col(Webhook.id).in_(bindparam("ids", expanding=True)), col(Webhook.next_at) <= now())
    .values(next_at=now() + CLAIM_SECONDS, tries=col(Webhook.tries) + 1)
    .returning(database.table(Webhook))
)


class _Account:
    """An account with waiting messages, and whether one of them is due."""

    account_id: int
    is_due: bool


#: The account at which the last look at the accounts ended; the next begins after it.
_last_account = 0


def claim(sending: Collection[Webhook]) -> list[Webhook]:
    """Claim due messages, each for one try, beside those that this worker is `sending`."""

    def claim_due(connection: Connection) -> list[Webhook]:
        due = database.all(_OLDEST_DUE, _Due, connection)
        if len(due) == PAGE_SIZE:
            # There may be more, so that one account's hide those of others.
            due = _due_by_account(connection)
        chosen = choose(in_turns(due), sending)
        if not chosen:
            return []
        return cast("list[Webhook]", connection.execute(_CLAIM, {"ids": chosen}).all())

    return database.run(claim_due)


def _due_by_account(connection: Connection) -> list[_Due]:
    """Return due messages of the next accounts: of each the oldest and the newest."""
    global _last_account
    found = connection.execute(_ACCOUNTS, {"after": _last_account}).all()
    due: dict[str, _Due] = {}
    visited = 0
    for account in cast("list[_Account]", found):
        if visited == ACCOUNTS_AT_A_TIME:
            return list(due.values())
        if account.is_due:
            # The newest as well: a receiver that is down must not hide the account's others.
            for query in (_OLDEST_OF_ACCOUNT, _NEWEST_OF_ACCOUNT):
                rows = connection.execute(query, {"account": account.account_id}).all()
                due |= {row.id: row for row in cast("list[_Due]", rows)}
            visited += 1
        _last_account = account.account_id
    if len(found) < MAX_PASSED_ACCOUNTS:
        _last_account = 0
    return list(due.values())


def in_turns(due: Iterable[_Due]) -> list[_Due]:
    """Return messages so that each account has its turn, and in it each of its receivers."""
    oldest_first = sorted(due, key=lambda message: message.next_at)
    by_receiver = _ranked(oldest_first, lambda message: (message.account_id, message.host))
    return _ranked(by_receiver, lambda message: message.account_id)


def _ranked(messages: Iterable[_Due], group: Callable[[_Due], Any]) -> list[_Due]:
    """Return the first message of each group, then the second of each, and so on."""
    ranks, counts = list[tuple[int, _Due]](), Counter[Any]()
    for message in messages:
        counts[group(message)] += 1
        ranks.append((counts[group(message)], message))
    return [message for _, message in sorted(ranks, key=lambda ranked: ranked[0])]


def choose(due: Iterable[_Due], sending: Collection[Webhook]) -> list[str]:
    """Return the ids of those of `due` that may be sent beside those being sent."""
    receivers = Counter((sent.account_id, sent.host) for sent in sending)
    accounts = Counter(sent.account_id for sent in sending)
    chosen: list[str] = []
    for message in due:
        if len(sending) + len(chosen) == MAX_SENDING:
            break
        account, receiver = message.account_id, (message.account_id, message.host)
        if receivers[receiver] < MAX_PER_RECEIVER and accounts[account] < MAX_PER_ACCOUNT:
            receivers[receiver] += 1
            accounts[account] += 1
            chosen.append(message.id)
    return chosen


# ---- Sending -------------------------------------------------------------------------------------


def body_of(message: Webhook) -> bytes:
    """Return the body: the same bytes on every try, whatever becomes of the job's images."""
    if message.body is not None:
        return bytes(message.body)
    of_message = col(Webhook.id) == message.id
    first = update(Webhook).where(of_message, col(Webhook.body).is_(None))
    first = first.values(body=_new_body(message))

    def keep_first(connection: Connection) -> bytes:
        database.execute(first, connection)
        kept = database.scalar(select(col(Webhook.body)).where(of_message), connection)
        return bytes(kept or b"")

    return database.run(keep_first)


def _new_body(message: Webhook) -> bytes:
    job = store.find(message.job_id)
    assert job is not None  # Its record is kept for good.
    return orjson.dumps(
        {
            "type": message.type,
            "timestamp": view.rfc3339(message.created),
            "data": view.as_json(job),
        }
    )


def secret_of(message: Webhook) -> str:
    """Return the secret that signs the message."""
    return database.run(lambda connection: read_webhook_secret(connection, message.account_id))


# ---- After a try ---------------------------------------------------------------------------------


def mark_delivered(message: Webhook) -> None:
    """Record that the receiver has the message."""
    _end_try(message, next_at=None, delivered_at=time.time(), last_error=None)


def schedule_retry(message: Webhook, seconds: float, reason: str) -> None:
    """Make the message due again after so many seconds."""
    _end_try(message, next_at=now() + seconds, last_error=reason)


def give_up(message: Webhook, reason: str) -> None:
    """Send the message no more."""
    _end_try(message, next_at=None, gave_up_at=time.time(), last_error=reason)


def hand_back(message: Webhook) -> None:
    """Leave the try to another worker; it does not count."""
    _end_try(message, next_at=now(), tries=message.tries - 1)


def _end_try(message: Webhook, **columns: Any) -> None:
    # Only the last claim may write: `next_at` is still as that claim set it.
    query = update(Webhook).where(
        col(Webhook.id) == message.id, col(Webhook.next_at) == message.next_at
    )
    database.execute(query.values(**columns))


# ---- For operators -------------------------------------------------------------------------------


def listing(
    limit: int, account_id: int | None = None, job_id: str | None = None, failed: bool = False
) -> list[Webhook]:
    """Return the newest `limit` messages that match; `failed`: whose last try failed."""
    filters = {Webhook.account_id: account_id, Webhook.job_id: job_id}
    conditions: list[ColumnElement[bool]] = [
        col(column) == value for column, value in filters.items() if value is not None
    ]
    if failed:
        conditions.append(col(Webhook.last_error).is_not(None))
    query = select(database.table(Webhook)).where(*conditions)
    query = query.order_by(col(Webhook.created).desc(), col(Webhook.id)).limit(limit)
    return database.all(query, Webhook)


def redeliver(message_id: str) -> bool:
    """Make a message due at once, whatever became of it; False if there is none.

    It is tried again for as long as a new one would be.
    """
    query = update(Webhook).where(col(Webhook.id) == message_id)
    due = query.values(
        next_at=now(),
        expires_at=time.time() + EXPIRY_SECONDS,
        tries=0,
        delivered_at=None,
        gave_up_at=None,
    )
    return bool(database.execute(due))
