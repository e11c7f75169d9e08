"""Accounts and keys as operators see them: read-only, by plain SQL.

Loads no models: importing SQLModel would cost a command several times what its query does.
"""

from sqlalchemy import Boolean, text

import database
from models.errors import NotFound


class AccountRow:
    """An account, with the number of its keys that are not revoked."""

    id: int
    name: str
    plan: str
    suspended: bool
    #: Credits.
    balance: int
    held: int
    #: Unix seconds.
    created: float
    key_count: int


class KeyRow:
    """A key, with the name of its account. Times are Unix seconds.

    `models` and `addresses` are JSON lists. What it may spend, and has spent, are credits.
    """

    id: int
    account: str
    name: str
    #: The key's last four characters.
    hint: str
    created: float
    expires_at: float | None
    revoked_at: float | None
    models: str | None
    addresses: str | None
    requests_per_hour: int | None
    credit_limit: int | None
    daily_limit: int | None
    spent: int
    #: A UTC day, in days since 1970, and what of `spent` is due to its jobs.
    spent_day: int
    spent_on_day: int


_ACCOUNTS = """
    SELECT id, name, plan, suspended, balance, held, created,
        (SELECT count(*) FROM keys WHERE account_id = accounts.id AND revoked_at IS NULL)
        AS key_count
    FROM accounts
"""
_KEYS = """
    SELECT keys.id, accounts.name AS account, keys.name, hint, keys.created, expires_at, revoked_at,
        models, addresses, requests_per_hour, credit_limit, daily_limit,
        spent, spent_day, spent_on_day
    FROM keys JOIN accounts ON accounts.id = keys.account_id
"""


def accounts() -> list[AccountRow]:
    """Return every account, oldest first."""
    query = text(f"{_ACCOUNTS} ORDER BY id").columns(suspended=Boolean)
    return database.all(query, AccountRow)


def find_account(name: str) -> AccountRow | None:
    """Return the account called `name`, or None."""
    if not name.isprintable():
        return None  # PostgreSQL rejects NUL and lone surrogates; such a name cannot exist.
    query = text(f"{_ACCOUNTS} WHERE name = :name").bindparams(name=name)
    return database.one(query.columns(suspended=Boolean), AccountRow)


def account(name: str) -> AccountRow:
    """Return the account called `name`; raise `NotFound` if there is none."""
    row = find_account(name)
    if row is None:
        raise NotFound(
            f"There is no account named '{name}'. `likedo accounts list` shows those there are."
        )
    return row


def keys(account_id: int | None = None) -> list[KeyRow]:
    """Return the keys of one account or of all, oldest first."""
    if account_id is None:
        return database.all(text(f"{_KEYS} ORDER BY keys.id"), KeyRow)
    query = text(f"{_KEYS} WHERE account_id = :account_id ORDER BY keys.id")
    return database.all(query.bindparams(account_id=account_id), KeyRow)
