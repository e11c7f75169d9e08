"""Transactions, on PostgreSQL or SQLite. Run by both processes."""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

import sqlalchemy
from sqlalchemy import Connection, CursorResult, Executable, exc

from config.settings import settings
from database import engine
from database.clock import now
from database.engine import NO_ANSWER, Transaction
from models.errors import Unavailable

if TYPE_CHECKING:
    from sqlmodel import SQLModel

T = TypeVar("T")
R = TypeVar("R")


#: PostgreSQL's code for two transactions that wait for each other.
DEADLOCK = "40P01"
#: PostgreSQL's codes for a missing table and a missing column.
LACKING = ("42P01", "42703")


def table(model: "type[SQLModel]") -> sqlalchemy.Table:
    """Return a model's table, for queries that return rows instead of objects."""
    mapped = sqlalchemy.inspect(model).local_table
    assert isinstance(mapped, sqlalchemy.Table)
    return mapped


def locked(query: Any, *, skip_locked: bool = False) -> Any:
    """Return a `Select` that locks its rows until the transaction ends.

    Rows that refer to them may still be inserted: PostgreSQL locks the row that a foreign key
    names, and a plain `FOR UPDATE` would wait for that lock.
    """
    return query.with_for_update(key_share=True, skip_locked=skip_locked)


def run(transaction: Transaction[T], *, repeatable: bool = True) -> T:
    """Run a transaction and return what it returns, once that is committed.

    `transaction` is a function of SQL alone: it waits for nothing else. It may be run again from
    its start: on SQLite if another member of its group fails, on PostgreSQL after a deadlock or a
    lost connection. A connection may be lost after the commit; pass `repeatable=False` if a second
    run would then do something twice.
    Raises `Unavailable` if the database does not answer within about 10 seconds, or lacks tables.
    """
    try:
        if settings.uses_sqlite and _shares_a_loop():
            from database import (
                group_commit,
            )  # Commands run without gevent, so they do not load it.

            return group_commit.groups().run(transaction)
        return _run_here(transaction, repeatable)
    except (exc.OperationalError, exc.InterfaceError, exc.TimeoutError) as error:
        raise Unavailable(NO_ANSWER) from error
    except exc.ProgrammingError as error:
        if not lacks_tables(error):
            raise
        raise Unavailable("The database is not ready just now. Try again.") from error


def _shares_a_loop() -> bool:
    """Tell whether this process runs greenlets, which a transaction in their thread would block."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))


def all(query: Executable, row: type[R], connection: Connection | None = None) -> list[R]:
    """Return the rows of a query, each typed as `row`.

    `row` only describes the columns, for mypy: a model whose table is selected, or a class of
    annotations. Without a `connection` the query is a transaction of its own.
    """
    return cast("list[R]", _fetch(query, connection, lambda rows: list(rows)))


def one(query: Executable, row: type[R], connection: Connection | None = None) -> R | None:
    """Return the one row of a query, typed as for `all`; None if there is none."""
    return cast("R | None", _fetch(query, connection, lambda rows: rows.one_or_none()))


def scalar(query: Executable, connection: Connection | None = None) -> Any:
    """Return the value of a query of one column and at most one row; None if it has no row."""
    return _fetch(query, connection, lambda rows: rows.scalar_one_or_none())


def execute(statement: Executable, connection: Connection | None = None) -> int:
    """Run an INSERT, UPDATE or DELETE; return how many rows it affected."""
    return int(_fetch(statement, connection, lambda result: result.rowcount))


def _fetch(
    statement: Executable,
    connection: Connection | None,
    read: Callable[[CursorResult[Any]], Any],
) -> Any:
    if connection is not None:
        return read(connection.execute(statement))
    return run(lambda connection: read(connection.execute(statement)))


def lacks_tables(error: BaseException | None) -> bool:
    """Tell whether a statement failed because `likedo db upgrade` has not been run."""
    if not isinstance(error, exc.DBAPIError):
        return False
    on_sqlite = "no such table" in str(error.orig) or "no such column" in str(error.orig)
    return on_sqlite or getattr(error.orig, "sqlstate", None) in LACKING


def _run_here(transaction: Transaction[T], repeatable: bool) -> T:
    """Run a transaction in the greenlet or thread that asks for it."""
    try:
        with engine.engine().begin() as connection:
            return transaction(connection)
    except exc.DBAPIError as error:
        # The server has rolled back one of two that waited for each other: this one.
        was_rolled_back = getattr(error.orig, "sqlstate", None) == DEADLOCK
        if not (was_rolled_back or error.connection_invalidated and repeatable):
            raise
        # After a restart of the server the pool makes a new connection.
        with engine.engine().begin() as connection:
            return transaction(connection)


def clock() -> float:
    """Return the database's time, in Unix seconds."""
    return run(lambda connection: float(connection.execute(sqlalchemy.select(now())).scalar_one()))
