"""The outbox of webhooks: messages that wait for a try, claimed by one worker at a time.

Settlement puts a message here in the transaction that ends its job. A worker claims it by moving
its next try ahead; if the worker dies, the message is due again then.
"""

import time
from collections import Counter
from collections.abc import Collection, Iterable
from typing import Any, cast

import orjson
from sqlalchemy import ColumnElement, Connection, bindparam, func, select, update
from sqlmodel import col

import database
from access.accounts import read_webhook_secret
from database.clock import now
from jobs.lifecycle import store, view
from models.webhook import Webhook

#: A try that was not recorded after this is taken for lost: longer than any try takes.
CLAIM_SECONDS = 60
#: What one worker sends at a time: in all, for one account, and to one receiver. A slow receiver
#: delays only its own webhooks, and an account with many slow receivers only its own.
MAX_SENDING, MAX_PER_ACCOUNT, MAX_PER_RECEIVER = 200, 3, 2
#: Due messages that are read to choose from.
PAGE_SIZE = 1000

_DUE_OF_EACH_RECEIVER = (
    select(
        col(Webhook.id),
        col(Webhook.account_id),
        col(Webhook.host),
        col(Webhook.next_at),
        func.row_number()
        .over(
            partition_by=(col(Webhook.account_id), col(Webhook.host)), order_by=col(Webhook.next_at)
        )
        .label("position"),
    )
    .where(col(Webhook.next_at) <= now())
    .subquery()
)
# Each account has its turn, so that one with many receivers does not delay others.
_DUE_OF_EACH_ACCOUNT = (
    select(
        _DUE_OF_EACH_RECEIVER,
        func.row_number()
        .over(
            partition_by=_DUE_OF_EACH_RECEIVER.c.account_id,
            order_by=(_DUE_OF_EACH_RECEIVER.c.position, _DUE_OF_EACH_RECEIVER.c.next_at),
        )
        .label("turn"),
    )
    .where(_DUE_OF_EACH_RECEIVER.c.position <= MAX_PER_RECEIVER)
    .subquery()
)
_DUE = (
    select(_DUE_OF_EACH_ACCOUNT)
    .order_by(_DUE_OF_EACH_ACCOUNT.c.turn, _DUE_OF_EACH_ACCOUNT.c.next_at)
    .limit(PAGE_SIZE)
)
_CLAIM = (
    update(Webhook)
    # If two workers choose the same message, the later one finds that it is not due any more.
    .where(col(Webhook.id).in_(bindparam("ids", expanding=True)), col(Webhook.next_at) <= now())
    .values(next_at=now() + CLAIM_SECONDS, tries=col(Webhook.tries) + 1)
    .returning(database.table(Webhook))
)


class _Due:
    """The columns of a due message by which it is chosen."""

    id: str
    account_id: int
    host: str


def claim(sending: Collection[Webhook]) -> list[Webhook]:
    """Claim due messages, each for one try, beside those that this worker is `sending`."""

    def claim_due(connection: Connection) -> list[Webhook]:
        chosen = choose(database.all(_DUE, _Due, connection), sending)
        if not chosen:
            return []
        return cast("list[Webhook]", connection.execute(_CLAIM, {"ids": chosen}).all())

    return database.run(claim_due)


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
    due = query.values(next_at=now(), tries=0, delivered_at=None, gave_up_at=None)
    return bool(database.execute(due))
