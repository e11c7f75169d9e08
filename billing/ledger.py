"""The ledger: append-only entries, a chain of hashes per account, and balances."""

import time
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import Connection, bindparam, insert, select, update
from sqlmodel import col

import database
from models import credit
from models.account import Account
from models.credit import Entry
from models.errors import InsufficientCredits


class LockedAccount:
    """The columns of an account that a movement of its credits needs."""

    id: int
    balance: int
    held: int
    chain: str


class EntryRow:
    """One entry of the ledger, without its hashes."""

    id: int
    kind: str
    credits: int
    balance_after: int
    created: float
    job_id: str | None
    reason: str


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


def lock(connection: Connection, account_id: int) -> LockedAccount:
    """Lock and return the account's row."""
    return cast("LockedAccount", connection.execute(_LOCK, {"account": account_id}).one())


def grant(account_id: int, credits: int, reason: str = "") -> int:
    """Add `credits`, or take them if negative, for the operator; return the new balance.

    Raises `InsufficientCredits` if the balance would fall below what is held.
    """

    def record_grant(connection: Connection) -> int | None:
        account = lock(connection, account_id)
        if account.balance + credits < account.held:
            return None
        record(connection, account, 0, [("grant", credits)], None, reason)
        return account.balance + credits

    balance = database.run(record_grant, repeatable=False)
    if balance is None:
        raise InsufficientCredits(
            "The balance cannot fall below zero, or below what running calls hold."
        )
    return balance


def record(
    connection: Connection,
    account: LockedAccount,
    released: int,
    movements: list[tuple[str, int]],
    job_id: str | None,
    reason: str = "",
) -> None:
    """Append `movements` to the locked account's chain; update its balance and held credits."""
    balance, previous = account.balance, account.chain
    for kind, credits in movements:
        balance += credits
        entry_hash = credit.chain(previous, account.id, job_id, kind, credits, balance, reason)
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
                "hash": entry_hash,
            },
        )
        previous = entry_hash
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
    """An account's balance and held credits."""

    balance: int
    held: int

    @property
    def available(self) -> int:
        return self.balance - self.held


def standing(account_id: int) -> Standing:
    """Return the account's balance and held credits."""
    query = select(col(Account.balance), col(Account.held)).where(col(Account.id) == account_id)
    row = database.one(query, Standing)
    assert row is not None  # Accounts are never deleted.
    return Standing(row.balance, row.held)


def entries(account_id: int, newest: int | None = None) -> list[EntryRow]:
    """Return an account's entries, oldest first: all of them, or only the `newest` ones."""
    query = select(*_ENTRY).where(col(Entry.account_id) == account_id)
    query = query.order_by(col(Entry.id).desc()).limit(newest)
    return database.all(query, EntryRow)[::-1]


def entries_of(job_id: str) -> list[EntryRow]:
    """Return the entries of a job, oldest first."""
    query = select(*_ENTRY).where(col(Entry.job_id) == job_id).order_by(col(Entry.id))
    return database.all(query, EntryRow)


_ENTRY: tuple[Any, ...] = (
    col(Entry.id),
    col(Entry.kind),
    col(Entry.credits),
    col(Entry.balance_after),
    col(Entry.created),
    col(Entry.job_id),
    col(Entry.reason),
)
