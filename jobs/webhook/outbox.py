"""The outbox of webhooks: messages that wait for a try, taken by one worker at a time.

The ledger puts a message there in the transaction that ends its job. A worker takes it by moving
its next try ahead; what a worker that died had taken is due again then.
"""

import time
from collections import Counter
from collections.abc import Collection, Iterable
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Connection, Row, bindparam, func, select, update
from sqlmodel import col

import database
from access.accounts import read_webhook_secret
from database.clock import now
from jobs.lifecycle import store, view
from models.webhook import Webhook

#: A try that was not recorded after this is taken for lost: longer than any takes.
CLAIM_SECONDS = 60
#: What one worker sends at a time. A receiver that is slow or down keeps its own messages waiting
#: and nobody else's, and an account with many such receivers its own.
AT_ONCE, OF_ONE_ACCOUNT, AT_ONE_RECEIVER = 200, 3, 2
#: Messages that are looked at to choose from.
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
        .label("place"),
    )
    .where(col(Webhook.next_at) <= now())
    .subquery()
)
# Many receivers of one account stand before nobody else's: each account has its turn.
_DUE_OF_EACH = (
    select(
        _DUE_OF_EACH_RECEIVER,
        func.row_number()
        .over(
            partition_by=_DUE_OF_EACH_RECEIVER.c.account_id,
            order_by=(_DUE_OF_EACH_RECEIVER.c.place, _DUE_OF_EACH_RECEIVER.c.next_at),
        )
        .label("turn"),
    )
    .where(_DUE_OF_EACH_RECEIVER.c.place <= AT_ONE_RECEIVER)
    .subquery()
)
_DUE = select(_DUE_OF_EACH).order_by(_DUE_OF_EACH.c.turn, _DUE_OF_EACH.c.next_at).limit(PAGE_SIZE)
_TAKE = (
    update(Webhook)
    # Of two workers that choose the same, the later one finds it due no more.
    .where(col(Webhook.id).in_(bindparam("ids", expanding=True)), col(Webhook.next_at) <= now())
    .values(next_at=now() + CLAIM_SECONDS, tries=col(Webhook.tries) + 1)
    .returning(database.table(Webhook))
)


def take(sending: Collection[Row[Any]]) -> list[Row[Any]]:
    """Take messages that are due, each for one try, beside those that this worker is `sending`."""

    def work(connection: Connection) -> list[Row[Any]]:
        chosen = choose(connection.execute(_DUE), sending)
        return list(connection.execute(_TAKE, {"ids": chosen})) if chosen else []

    return database.run(work)


def choose(due: Iterable[Row[Any]], sending: Collection[Row[Any]]) -> list[str]:
    """Return the ids of those of `due` that may be sent beside what is being sent."""
    receivers = Counter(_receiver(row) for row in sending)
    accounts = Counter(row.account_id for row in sending)
    chosen: list[str] = []
    for row in due:
        if len(sending) + len(chosen) == AT_ONCE:
            break
        if (
            receivers[_receiver(row)] < AT_ONE_RECEIVER
            and accounts[row.account_id] < OF_ONE_ACCOUNT
        ):
            receivers[_receiver(row)] += 1
            accounts[row.account_id] += 1
            chosen.append(row.id)
    return chosen


def _receiver(row: Row[Any]) -> tuple[int, str]:
    return row.account_id, row.host


# ---- What is sent --------------------------------------------------------------------------------


def body_of(message: Row[Any]) -> bytes:
    """Return what is sent: the same bytes on every try, whatever becomes of the job's images."""
    if message.body is not None:
        return bytes(message.body)
    made = _made(message)

    def work(connection: Connection) -> bytes:
        mine = col(Webhook.id) == message.id
        connection.execute(
            update(Webhook).where(mine, col(Webhook.body).is_(None)).values(body=made)
        )
        return bytes(connection.execute(select(col(Webhook.body)).where(mine)).scalar_one() or b"")

    return database.run(work)


def _made(message: Row[Any]) -> bytes:
    job = store.find(message.job_id)
    assert job is not None  # Its record is kept for good.
    return orjson.dumps(
        {
            "type": message.type,
            "timestamp": view.rfc3339(message.created),
            "data": view.as_json(job),
        }
    )


def secret_of(message: Row[Any]) -> str:
    """Return what the message is signed with."""
    return database.run(lambda connection: read_webhook_secret(connection, message.account_id))


# ---- What became of it ---------------------------------------------------------------------------


def note_delivered(message: Row[Any]) -> None:
    """Remember that the receiver has it."""
    _end_try(message, next_at=None, delivered_at=time.time(), last_error=None)


def try_again(message: Row[Any], seconds: float, why: str) -> None:
    """Have it sent once more after so many seconds."""
    _end_try(message, next_at=now() + seconds, last_error=why)


def give_up(message: Row[Any], why: str) -> None:
    """Have it not sent any more."""
    _end_try(message, next_at=None, gave_up_at=time.time(), last_error=why)


def hand_back(message: Row[Any]) -> None:
    """Leave the try to another worker."""
    _end_try(message, next_at=now(), tries=message.tries - 1)


def _end_try(message: Row[Any], **columns: Any) -> None:
    # Only who took it last says what becomes of it: `next_at` is as it was set then.
    query = update(Webhook).where(
        col(Webhook.id) == message.id, col(Webhook.next_at) == message.next_at
    )
    database.run(lambda connection: connection.execute(query.values(**columns)) and None)


# ---- For operators -------------------------------------------------------------------------------


def listing(
    limit: int, account_id: int | None = None, job_id: str | None = None, failed: bool = False
) -> list[Row[Any]]:
    """Return the newest `limit` messages that fit; `failed`: whose last try failed."""
    wanted = {Webhook.account_id: account_id, Webhook.job_id: job_id}
    conditions: list[ColumnElement[bool]] = [
        col(column) == value for column, value in wanted.items() if value is not None
    ]
    if failed:
        conditions.append(col(Webhook.last_error).is_not(None))
    query = select(database.table(Webhook)).where(*conditions)
    query = query.order_by(col(Webhook.created).desc(), col(Webhook.id)).limit(limit)
    return database.run(lambda connection: list(connection.execute(query)))


def redeliver(message_id: str) -> bool:
    """Have a message sent at once, whatever became of it; False where there is none.

    It is tried anew for as long as a new one would be.
    """

    def work(connection: Connection) -> bool:
        changed = connection.execute(
            update(Webhook)
            .where(col(Webhook.id) == message_id)
            .values(next_at=now(), tries=0, delivered_at=None, gave_up_at=None)
        )
        return bool(changed.rowcount)

    return database.run(work)
