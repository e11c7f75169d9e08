"""The ledger: append-only entries, a chain of hashes per account, and balances."""

import time
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, bindparam, insert, select, update
from sqlmodel import col

import database
from models import credit
from models.account import Account
from models.credit import Entry
from models.errors import InsufficientCredits

_LOCK = database.locked(
    select(col(Account.id), col(Account.balance), col(Account.held), col(Account.chain)).where(
        col(Account.id) == bindparam("account")
    )
)
_MOVE = (
    update(Account)
    .where(col(Account.id) == bindparam("account"))
    .values(
        balance=bindparam("new_balance"), held=bindparam("new_held"), chain=bindparam("new_chain")
    )
)
_INSERT_ENTRY = insert(Entry)


def lock(connection: Connection, account_id: int) -> Any:
    return connection.execute(_LOCK, {"account": account_id}).one()


def grant(account_id: int, credits: int, reason: str = "") -> int:
    """Add `credits` (or take them, if negative) by the operator's hand; return the new balance.

    Raises `InsufficientCredits` where the balance would fall below what is held.
    """

    def work(connection: Connection) -> int | None:
        account = lock(connection, account_id)
        if account.balance + credits < account.held:
            return None
        record(connection, account, 0, [("grant", credits)], None, reason)
        return int(account.balance) + credits

    balance = database.run(work, repeatable=False)
    if balance is None:
        raise InsufficientCredits(
            "The balance cannot fall below zero, or below what running calls hold."
        )
    return balance


def record(
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
