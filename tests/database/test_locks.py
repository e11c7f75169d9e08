"""Who waits for whom in the database, and that no two wait for each other."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Connection, select, text
from sqlmodel import col

import database
from access import accounts, keys
from database import engine
from models.account import Account

# SQLite lets one transaction in at a time.
pytestmark = [
    pytest.mark.postgres,
    pytest.mark.usefixtures("stored"),
    pytest.mark.parametrize("stored", ["postgresql"], indirect=True),
]


def make_account() -> int:
    return accounts.create(f"account-{time.monotonic_ns()}", "pro")


def lock(connection: Connection, account_id: int) -> None:
    connection.execute(
        database.locked(select(col(Account.balance)).where(col(Account.id) == account_id))
    )


def test_a_row_that_names_an_account_does_not_wait_for_who_changes_it() -> None:
    account_id = make_account()

    with engine.engine().begin() as changing:
        lock(changing, account_id)
        with ThreadPoolExecutor(1) as other:
            # Were it to wait, it would for as long as this block does.
            assert other.submit(keys.create, account_id).result(timeout=30)


def test_of_two_that_wait_for_each_other_both_come_to_their_end() -> None:
    one, other = make_account(), make_account()
    have_one = threading.Barrier(2)

    def lock_in_order(first: int, second: int) -> int:
        tries = 0

        def lock_both(connection: Connection) -> int:
            nonlocal tries
            tries += 1
            lock(connection, first)
            if tries == 1:
                have_one.wait(30)
            lock(connection, second)
            connection.execute(text("UPDATE accounts SET balance = balance + 1"))
            return tries

        return database.run(lock_both, repeatable=False)

    with ThreadPoolExecutor(2) as threads:
        tries = list(threads.map(lock_in_order, (one, other), (other, one)))

    assert sorted(tries) == [1, 2]
    with engine.engine().begin() as connection:
        balances = connection.execute(select(col(Account.balance))).scalars()
        assert set(balances) == {2}
