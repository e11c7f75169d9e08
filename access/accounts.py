"""Accounts: creates them, changes plans, suspends them; and their webhook secrets."""

import time
from typing import Any

from sqlalchemy import Connection, exc, insert, select, update
from sqlmodel import col

import database
from access import keys
from models import account, credit
from models.account import Account
from models.errors import InvalidRequest


def create(name: str, plan: str) -> int:
    """Create an account without credits; return its id. Raises `InvalidRequest` on a taken name."""
    row = {
        "name": name,
        "plan": plan,
        "suspended": False,
        "balance": 0,
        "held": 0,
        "chain": credit.NO_ENTRY,
        "webhook_secret": account.make_webhook_secret(),
        "created": time.time(),
    }
    try:
        return int(database.scalar(insert(Account).values(row).returning(col(Account.id))))
    except exc.IntegrityError as error:
        raise InvalidRequest(
            f"There is an account named '{name}' already. Choose another name."
        ) from error


def set_plan(account_id: int, plan: str) -> None:
    """Give an account another plan, at once in every process."""
    _change(account_id, plan=plan)


def suspend(account_id: int, suspended: bool = True) -> None:
    """Refuse an account's keys, or accept them again, at once in every process."""
    _change(account_id, suspended=suspended)


def _change(account_id: int, **columns: Any) -> None:
    database.execute(update(Account).where(col(Account.id) == account_id).values(**columns))
    keys.announce(account_id)


def webhook_secret(account_id: int) -> str:
    """Return the secret that signs the account's webhooks."""
    return database.run(lambda connection: read_webhook_secret(connection, account_id))


def read_webhook_secret(connection: Connection, account_id: int) -> str:
    """Return the secret that signs the account's webhooks; create it if the account has none."""
    is_account = col(Account.id) == account_id
    query = select(col(Account.webhook_secret)).where(is_account)
    secret: str | None = connection.execute(query).scalar_one()
    if secret is not None:
        return secret
    connection.execute(
        update(Account)
        .where(is_account, col(Account.webhook_secret).is_(None))
        .values(webhook_secret=account.make_webhook_secret())
    )
    return str(connection.execute(query).scalar_one())
