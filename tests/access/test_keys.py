"""Keys: what is known of them for a moment, the wrong ones included."""

from collections.abc import Iterator

import pytest
from sqlalchemy import event

from access import accounts, keys
from database import engine
from models.errors import InvalidKey


@pytest.fixture
def queries(stored: None) -> Iterator[list[str]]:
    """The statements that this process runs."""
    ran: list[str] = []

    def record(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        ran.append(statement)

    database = engine.engine()
    event.listen(database, "before_cursor_execute", record)
    yield ran
    event.remove(database, "before_cursor_execute", record)
    keys._refused.clear()


def test_a_wrong_key_costs_one_query_however_often_it_is_sent(queries: list[str]) -> None:
    for _ in range(20):
        with pytest.raises(InvalidKey, match="nobody has this key"):
            keys.identify("lk-of-nobody")

    assert len([ran for ran in queries if "FROM accounts JOIN keys" in ran]) == 1


@pytest.mark.usefixtures("store")
def test_a_key_that_was_refused_is_let_in_as_soon_as_its_account_changes(
    queries: list[str],
) -> None:
    account_id = accounts.create("refused", "free")
    _, key = keys.create(account_id)
    accounts.suspend(account_id)
    for _ in range(2):
        with pytest.raises(InvalidKey, match="suspended"):
            keys.identify(key)

    accounts.suspend(account_id, False)
    keys.forget(b'{"account": 0}')  # As every web process is told.

    assert keys.identify(key).account_id == account_id
