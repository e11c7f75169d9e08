"""Accounts: made, found, given another plan, suspended."""

import time
from typing import Any

from sqlalchemy import Connection, Row, Select, exc, func, insert, select, update
from sqlmodel import col

import database
from access import keys
from models import account, credit
from models.account import Account, Key
from models.errors import InvalidRequest, NotFound


def create(name: str, plan: str) -> int:
    """Make an account without credits and return its id; raise `InvalidRequest` on a taken name."""
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

    def work(connection: Connection) -> int:
        made = connection.execute(insert(Account).returning(col(Account.id)), row)
        return int(made.scalar_one() or 0)

    try:
        return database.run(work)
    except exc.IntegrityError as error:
        raise InvalidRequest(
            f"There is an account named '{name}' already. Choose another name."
        ) from error


def listing() -> list[Row[Any]]:
    """Return every account, the oldest first, each with `key_count`, its keys not revoked."""
    query = _shown().order_by(col(Account.id))
    return database.run(lambda connection: list(connection.execute(query)))


def find(name: str) -> Row[Any] | None:
    """Return the account called `name`, as `listing` does; None where there is none."""
    if not name.isprintable():
        return None  # Nor could the database be asked for a NUL or half a character.
    query = _shown().where(col(Account.name) == name)
    return database.run(lambda connection: connection.execute(query).one_or_none())


def get_one(name: str) -> Row[Any]:
    """Return the account called `name`, as `listing` does; raise `NotFound`."""
    found = find(name)
    if found is None:
        raise NotFound(
            f"There is no account named '{name}'. `likedo accounts list` shows those there are."
        )
    return found


def webhook_secret(account_id: int) -> str:
    """Return what the account's webhooks are signed with."""
    return database.run(lambda connection: read_webhook_secret(connection, account_id))


def _shown() -> Select[Any]:
    in_force = (
        select(func.count())
        .select_from(Key)
        .where(col(Key.account_id) == col(Account.id), col(Key.revoked_at).is_(None))
    )
    return select(
        col(Account.id),
        col(Account.name),
        col(Account.plan),
        col(Account.suspended),
        col(Account.balance),
        col(Account.held),
        col(Account.created),
        in_force.scalar_subquery().label("key_count"),
    )


def set_plan(account_id: int, plan: str) -> None:
    """Give an account another plan, at once in every process."""
    _change(account_id, plan=plan)


def suspend(account_id: int, suspended: bool = True) -> None:
    """Refuse an account's keys, at once in every process; or let them in again."""
    _change(account_id, suspended=suspended)


def _change(account_id: int, **columns: Any) -> None:
    def work(connection: Connection) -> None:
        connection.execute(update(Account).where(col(Account.id) == account_id).values(**columns))

    database.run(work)
    keys.announce(account_id)


def read_webhook_secret(connection: Connection, account_id: int) -> str:
    """Return what the account's webhooks are signed with; an account that has none is given one."""
    mine = col(Account.id) == account_id
    query = select(col(Account.webhook_secret)).where(mine)
    if (found := connection.execute(query).scalar_one()) is not None:
        return found
    connection.execute(
        update(Account)
        .where(mine, col(Account.webhook_secret).is_(None))
        .values(webhook_secret=account.make_webhook_secret())
    )
    return str(connection.execute(query).scalar_one())
