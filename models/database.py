"""Where SQL is run: one function that takes a transaction's work, and runs it the right way.

On PostgreSQL a transaction runs in the greenlet that asks for it. On SQLite, in a process whose
greenlets share one loop, all transactions run in one real thread, which takes what waits as one
group with one commit: a greenlet that yielded between BEGIN and COMMIT in the loop's own thread
would freeze the process, and a commit waits for the disk.
"""

import fcntl
from collections.abc import Callable
from functools import cache
from typing import IO, Any, TypeVar

import gevent
import sqlalchemy
from gevent import monkey
from gevent.event import AsyncResult
from gevent.threadpool import ThreadPool
from sqlalchemy import Connection, Engine, event, exc
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from config.settings import settings
from models import errors

T = TypeVar("T")
Work = Callable[[Connection], T]

#: More would hold the write lock for longer than the others like to wait.
GROUP_SIZE = 64
BUSY_TIMEOUT_MS = 10_000


class now(FunctionElement[float]):  # noqa: N801  # it reads as the SQL function it is
    """The database's clock, in Unix seconds: the one clock that all machines share."""

    type = sqlalchemy.Double()
    inherit_cache = True


@compiles(now, "sqlite")
def _now_on_sqlite(*_: Any, **__: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(now, "postgresql")
def _now_on_postgresql(*_: Any, **__: Any) -> str:
    return "extract(epoch FROM clock_timestamp())::float8"


@cache
def engine() -> Engine:
    """Return this process's engine. A seam: tests put another in its place."""
    return make_engine(settings.sql_url)


def make_engine(url: str) -> Engine:
    if not url.startswith("sqlite"):
        return sqlalchemy.create_engine(url, pool_size=settings.database_pool_size, max_overflow=0)
    if settings.uses_sqlite and not settings.database_url:
        settings.var_dir.mkdir(parents=True, exist_ok=True)
    made = sqlalchemy.create_engine(url)
    event.listen(made, "connect", _prepare_sqlite)
    event.listen(made, "begin", _begin_immediate)
    return made


def _prepare_sqlite(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # We say BEGIN ourselves.
    connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")


def _begin_immediate(connection: Connection) -> None:
    # A transaction that began as a reader and then wants to write may be refused at once.
    if connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def run(work: Work[T]) -> T:
    """Run `work` in one transaction and return what it returns, once that is committed.

    `work` must be SQL only, must not wait for anything else, and may be run again from its start:
    in a group on SQLite when another member fails, on PostgreSQL when the connection was lost.
    Raises `Unavailable` where the database does not answer.
    """
    try:
        if settings.uses_sqlite and monkey.is_module_patched("threading"):
            return _queue().run(work)
        return _run_here(work)
    except (exc.OperationalError, exc.InterfaceError, exc.TimeoutError) as error:
        raise errors.Unavailable("The database does not answer just now. Try again.") from error


def _run_here(work: Work[T]) -> T:
    try:
        with engine().begin() as connection:
            return work(connection)
    except exc.DBAPIError as error:
        if not error.connection_invalidated:
            raise
        # The server was restarted; the pool now knows, and the next connection is a new one.
        with engine().begin() as connection:
            return work(connection)


class _GroupedThread:
    """Runs the transactions of all greenlets in one real thread, in groups."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Work[Any], AsyncResult]] = []
        self.thread = ThreadPool(1)
        self.transactions = _Transactions()
        self.draining = False

    def run(self, work: Work[T]) -> T:
        outcome = AsyncResult()
        self.waiting.append((work, outcome))
        if not self.draining:
            self.draining = True
            gevent.spawn(self._drain)
        result: T = outcome.get()
        return result

    def _drain(self) -> None:
        try:
            while self.waiting:
                group = self.waiting[:GROUP_SIZE]
                del self.waiting[:GROUP_SIZE]
                results = self._apply([work for work, _ in group])
                for (_, outcome), (value, error) in zip(group, results, strict=True):
                    outcome.set_exception(error) if error else outcome.set(value)
        finally:
            self.draining = False

    def _apply(self, group: list[Work[Any]]) -> list["_Outcome"]:
        try:
            results: list[_Outcome] = self.thread.apply(self.transactions.run, (group,))
        except Exception as error:  # Nobody may be left waiting for an answer that cannot come.
            return [(None, error)] * len(group)
        return results


_Outcome = tuple[Any, BaseException | None]


class _Transactions:
    """One connection to SQLite, kept by one thread, with transactions begun and ended by hand.

    SQLAlchemy's own begin and commit cost several times what SQLite's do.
    """

    def __init__(self) -> None:
        self.connection: Connection | None = None
        self.turn: IO[str] | None = None

    def run(self, group: list[Work[Any]]) -> list[_Outcome]:
        """Run every member in one transaction; where one fails, each in one of its own."""
        try:
            return [(value, None) for value in self._commit(group)]
        except Exception as error:  # It is raised again in the greenlet that asked.
            if len(group) == 1:
                return [(None, error)]
        return [outcome for work in group for outcome in self.run([work])]

    def _commit(self, group: list[Work[Any]]) -> list[Any]:
        connection, turn = self._connect()
        # Processes take turns at writing: waiting for this lock ends the moment it is free, where
        # SQLite's own waiting sleeps for longer and longer.
        fcntl.flock(turn, fcntl.LOCK_EX)
        try:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            values = [work(connection) for work in group]
            connection.exec_driver_sql("COMMIT")
        except BaseException:
            self._roll_back(connection)
            raise
        finally:
            fcntl.flock(turn, fcntl.LOCK_UN)
        return values

    def _connect(self) -> tuple[Connection, IO[str]]:
        if self.connection is None:
            self.connection = engine().connect().execution_options(isolation_level="AUTOCOMMIT")
        if self.turn is None:
            self.turn = open(f"{engine().url.database}-turn", "w")  # noqa: SIM115  # kept open
        return self.connection, self.turn

    def _roll_back(self, connection: Connection) -> None:
        """Undo what was begun; a connection that cannot do even that is replaced."""
        try:
            connection.exec_driver_sql("ROLLBACK")
        except exc.DBAPIError:
            connection.invalidate()
            connection.close()
            self.connection = None


@cache
def _queue() -> _GroupedThread:
    return _GroupedThread()


def clock() -> float:
    """Return the database's time, in Unix seconds."""
    return run(lambda connection: float(connection.execute(sqlalchemy.select(now())).scalar_one()))
