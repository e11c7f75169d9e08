"""Transactions, on PostgreSQL or SQLite. Run by both processes."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import sqlalchemy
from gevent import monkey
from sqlalchemy import Connection, CursorResult, Executable, exc
from sqlmodel import SQLModel

from config.settings import settings
from database import engine, group_commit
from database.clock import now
from database.group_commit import Transaction
from models.errors import Unavailable

T = TypeVar("T")
R = TypeVar("R")


#: PostgreSQL's code for two transactions that wait for each other.
DEADLOCK = "40P01"
#: And those for a table and a column that is not there.
LACKING = ("42P01", "42703")


def table(model: type[SQLModel]) -> sqlalchemy.Table:
    """Return a model's table, for queries of whole rows that make no objects of them."""
    found = sqlalchemy.inspect(model).local_table
    assert isinstance(found, sqlalchemy.Table)
    return found


def locked(query: Any, *, skip_locked: bool = False) -> Any:
    """Return a `Select` so that nobody else changes its rows before the transaction's end.

    Rows that refer to them may be inserted meanwhile, as they may beside any change of ours: what
    a foreign key names is read under a lock of its own, and a plain `FOR UPDATE` and that would
    wait for each other.
    """
    return query.with_for_update(key_share=True, skip_locked=skip_locked)


def run(work: Transaction[T], *, repeatable: bool = True) -> T:
    """Run `work` in one transaction and return what it returns, once that is committed.

    `work` must be SQL only, must not wait for anything else, and may be run again from its start:
    in a group on SQLite when another member fails, on PostgreSQL when it and another waited for
    each other, or when the connection was lost, perhaps after the commit; what that would do
    twice is not `repeatable`.
    Raises `Unavailable` where the database does not answer, or lacks tables.
    """
    try:
        if settings.uses_sqlite and monkey.is_module_patched("threading"):
            return group_commit.groups().run(work)
        return _run_here(work, repeatable)
    except (exc.OperationalError, exc.InterfaceError, exc.TimeoutError) as error:
        raise Unavailable("The database does not answer just now. Try again.") from error
    except exc.ProgrammingError as error:
        if not lacks_tables(error):
            raise
        raise Unavailable("The database is not ready just now. Try again.") from error


def all(query: Executable, row: type[R], connection: Connection | None = None) -> list[R]:
    """Return the rows of a query, each typed as `row`.

    `row` only describes the columns, for mypy: a model whose table is selected, or a class of
    annotations. Without a `connection` the query is a transaction of its own.
    """
    return cast("list[R]", _fetch(query, connection, lambda found: list(found)))


def one(query: Executable, row: type[R], connection: Connection | None = None) -> R | None:
    """Return the one row of a query, typed as for `all`; None if there is none."""
    return cast("R | None", _fetch(query, connection, lambda found: found.one_or_none()))


def scalar(query: Executable, connection: Connection | None = None) -> Any:
    """Return the value of a query of one column that has at most one row; None if it has none."""
    return _fetch(query, connection, lambda found: found.scalar_one_or_none())


def execute(statement: Executable, connection: Connection | None = None) -> int:
    """Run an INSERT, UPDATE or DELETE; return how many rows it affected."""
    return int(_fetch(statement, connection, lambda found: found.rowcount))


def _fetch(
    statement: Executable,
    connection: Connection | None,
    read: Callable[[CursorResult[Any]], Any],
) -> Any:
    if connection is not None:
        return read(connection.execute(statement))
    return run(lambda connection: read(connection.execute(statement)))


def lacks_tables(error: BaseException | None) -> bool:
    """Tell whether what `likedo db upgrade` makes was not there."""
    if not isinstance(error, exc.DBAPIError):
        return False
    on_sqlite = "no such table" in str(error.orig) or "no such column" in str(error.orig)
    return on_sqlite or getattr(error.orig, "sqlstate", None) in LACKING


def _run_here(work: Transaction[T], repeatable: bool) -> T:
    try:
        with engine.engine().begin() as connection:
            return work(connection)
    except exc.DBAPIError as error:
        # Of two that wait for each other, the server has undone this one.
        was_undone = getattr(error.orig, "sqlstate", None) == DEADLOCK
        if not (was_undone or error.connection_invalidated and repeatable):
            raise
        # Where the server was restarted, the pool knows by now: the next connection is a new one.
        with engine.engine().begin() as connection:
            return work(connection)


def clock() -> float:
    """Return the database's time, in Unix seconds."""
    return run(lambda connection: float(connection.execute(sqlalchemy.select(now())).scalar_one()))
