"""The SQLAlchemy engine of this process."""

from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import sqlalchemy
from sqlalchemy import Connection, Engine, event

from config.settings import settings

T = TypeVar("T")
#: A function of SQL alone, run in one transaction; what it returns is returned after the commit.
Transaction = Callable[[Connection], T]

NO_ANSWER = "The database does not answer just now. Try again."
BUSY_TIMEOUT_MS = 10_000
#: On PostgreSQL a transaction that sends nothing for this long is ended by the server.
FROZEN_MS = 10_000


@cache
def engine() -> Engine:
    """Return this process's engine. A seam: tests replace it."""
    return make_engine(settings.sql_url)


def make_engine(url: str) -> Engine:
    """Return an engine whose errors and logs show no parameters, which are others' text."""
    if not url.startswith("sqlite"):
        made = sqlalchemy.create_engine(
            url, pool_size=settings.database_pool_size, max_overflow=0, hide_parameters=True
        )
        event.listen(made, "connect", _prepare_postgresql)
        return made
    if settings.uses_sqlite and not settings.database_url:
        settings.var_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = sqlalchemy.create_engine(url, hide_parameters=True)
    event.listen(made, "connect", _prepare_sqlite)
    event.listen(made, "begin", _begin_immediate)
    return made


def _prepare_postgresql(connection: Any, _: Any) -> None:
    # A process that freezes in the middle of a transaction, say on a machine that is being moved,
    # would keep its locks for as long.
    with connection.cursor() as cursor:
        cursor.execute(f"SET idle_in_transaction_session_timeout = {FROZEN_MS}")
    connection.commit()


def _prepare_sqlite(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # We send BEGIN ourselves.
    connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")


def _begin_immediate(connection: Connection) -> None:
    # SQLite may refuse a write at once in a transaction that began as a reader.
    if connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
        connection.exec_driver_sql("BEGIN IMMEDIATE")
