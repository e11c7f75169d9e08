"""Where SQL is run: one function that takes a transaction's work, and runs it the right way.

On PostgreSQL a transaction runs in the greenlet that asks for it. On SQLite, in a process whose
greenlets share one loop, what waits is run as one group with one commit, without a yield between
BEGIN and COMMIT: on the loop itself while that is quick, in a real thread while it is not.
"""

import fcntl
import sys
import time
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
from sqlmodel import SQLModel

from config.settings import settings
from models import errors

T = TypeVar("T")
Work = Callable[[Connection], T]

#: More would hold the write lock for longer than the others like to wait.
GROUP_SIZE = 64
BUSY_TIMEOUT_MS = 10_000
#: What is between two statements of a transaction for so long on PostgreSQL never comes to its end.
FROZEN_MS = 10_000
#: PostgreSQL's code for two transactions that wait for each other.
DEADLOCK = "40P01"
#: And those for a table and a column that is not there.
LACKING = ("42P01", "42703")
#: The loop asks this often, at this distance, whether it is the process's turn at writing.
TURN_TRIES = 20
TURN_TRY_SECONDS = 0.0003
#: A group that took longer than this on the loop sends what follows to the thread, for a while.
SLOW_SECONDS = 0.02
SLOW_FOR_SECONDS = 1.0
SWITCH_SECONDS = 0.0005


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
        made = sqlalchemy.create_engine(url, pool_size=settings.database_pool_size, max_overflow=0)
        event.listen(made, "connect", _prepare_postgresql)
        return made
    if settings.uses_sqlite and not settings.database_url:
        settings.var_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = sqlalchemy.create_engine(url)
    event.listen(made, "connect", _prepare_sqlite)
    event.listen(made, "begin", _begin_immediate)
    return made


def _prepare_postgresql(connection: Any, _: Any) -> None:
    # A process that is frozen in the middle of a transaction, as on a machine that is moved, would
    # keep what it has locked from all others for as long.
    with connection.cursor() as cursor:
        cursor.execute(f"SET idle_in_transaction_session_timeout = {FROZEN_MS}")
    connection.commit()


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


def run(work: Work[T], *, repeatable: bool = True) -> T:
    """Run `work` in one transaction and return what it returns, once that is committed.

    `work` must be SQL only, must not wait for anything else, and may be run again from its start:
    in a group on SQLite when another member fails, on PostgreSQL when it and another waited for
    each other, or when the connection was lost, perhaps after the commit; what that would do
    twice is not `repeatable`.
    Raises `Unavailable` where the database does not answer, or lacks tables.
    """
    try:
        if settings.uses_sqlite and monkey.is_module_patched("threading"):
            return _groups().run(work)
        return _run_here(work, repeatable)
    except (exc.OperationalError, exc.InterfaceError, exc.TimeoutError) as error:
        raise errors.Unavailable("The database does not answer just now. Try again.") from error
    except exc.ProgrammingError as error:
        if not lacks_tables(error):
            raise
        raise errors.Unavailable("The database is not ready just now. Try again.") from error


def lacks_tables(error: BaseException | None) -> bool:
    """Tell whether what `likedo db upgrade` makes was not there."""
    if not isinstance(error, exc.DBAPIError):
        return False
    on_sqlite = "no such table" in str(error.orig) or "no such column" in str(error.orig)
    return on_sqlite or getattr(error.orig, "sqlstate", None) in LACKING


def _run_here(work: Work[T], repeatable: bool) -> T:
    try:
        with engine().begin() as connection:
            return work(connection)
    except exc.DBAPIError as error:
        # Of two that wait for each other, the server has undone this one.
        was_undone = getattr(error.orig, "sqlstate", None) == DEADLOCK
        if not (was_undone or error.connection_invalidated and repeatable):
            raise
        # Where the server was restarted, the pool knows by now: the next connection is a new one.
        with engine().begin() as connection:
            return work(connection)


_Outcome = tuple[Any, BaseException | None]


class _Groups:
    """Runs the transactions of all greenlets of a process, what waits as one group.

    While the database is free and the disk is quick, a group is run on the loop itself: the way
    to another thread and back costs more than the transaction. Where it would have to wait, for
    another process or for a slow disk, a real thread does, and the loop goes on.
    """

    def __init__(self) -> None:
        self.waiting: list[tuple[Work[Any], AsyncResult]] = []
        self.draining = False
        self.thread = ThreadPool(1)
        self.here = _Transactions(busy_timeout_ms=0)
        self.there = _Transactions(BUSY_TIMEOUT_MS)
        self.slow_until = 0.0
        # The thread asks for the interpreter several times in a transaction, and would wait the
        # default of 5 ms each time while the loop is busy.
        sys.setswitchinterval(SWITCH_SECONDS)

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
                results = self._run_group([work for work, _ in group])
                for (_, outcome), (value, error) in zip(group, results, strict=True):
                    outcome.set_exception(error) if error else outcome.set(value)
                if self.waiting:
                    gevent.sleep(0)  # The loop is not ours alone.
        finally:
            self.draining = False

    def _run_group(self, group: list[Work[Any]]) -> list[_Outcome]:
        if time.monotonic() > self.slow_until and self._takes_turn():
            begun = time.monotonic()
            results = self.here.run(group)
            if time.monotonic() - begun > SLOW_SECONDS:
                self.slow_until = time.monotonic() + SLOW_FOR_SECONDS
            if results is not None:
                return results
        try:
            found: list[_Outcome] | None = self.thread.apply(self.there.run, (group,))
        except Exception as error:  # Nobody may be left waiting for an answer that cannot come.
            return [(None, error)] * len(group)
        return found or []

    def _takes_turn(self) -> bool:
        """Take the process's turn at writing, if it comes soon."""
        for _ in range(TURN_TRIES):
            if self.here.take_turn(wait=False):
                return True
            gevent.sleep(TURN_TRY_SECONDS)
        return False


class _Transactions:
    """One connection to SQLite, used by one thread, with transactions begun and ended by hand.

    SQLAlchemy's own begin and commit cost several times what SQLite's do. Processes take turns at
    writing by a lock on a file: waiting for it ends the moment it is free, where SQLite's own
    waiting sleeps for longer and longer.
    """

    def __init__(self, busy_timeout_ms: int) -> None:
        self.busy_timeout_ms = busy_timeout_ms
        self.connection: Connection | None = None
        self.turn: IO[str] | None = None

    def take_turn(self, wait: bool) -> bool:
        """Take the turn at writing; False where another has it and we do not `wait`."""
        if self.turn is None:
            self.turn = open(f"{engine().url.database}-turn", "w")  # noqa: SIM115  # kept open
        try:
            fcntl.flock(self.turn, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
        return True

    def run(self, group: list[Work[Any]]) -> list[_Outcome] | None:
        """Run every member in one transaction; where one fails, each in one of its own.

        Returns None where the database was locked and this connection does not wait for that.
        """
        self.take_turn(wait=True)
        assert self.turn is not None
        try:
            return self._run(group)
        except _Locked as locked:
            if not self.busy_timeout_ms:
                return None
            return [(None, locked.__cause__)] * len(group)
        finally:
            fcntl.flock(self.turn, fcntl.LOCK_UN)

    def _run(self, group: list[Work[Any]]) -> list[_Outcome]:
        try:
            return [(value, None) for value in self._commit(group)]
        except _Locked:
            raise
        except Exception as error:  # It is raised again in the greenlet that asked.
            if len(group) == 1:
                return [(None, error)]
        return [outcome for work in group for outcome in self._run([work])]

    def _commit(self, group: list[Work[Any]]) -> list[Any]:
        connection = self._begin()
        try:
            values = [work(connection) for work in group]
            connection.exec_driver_sql("COMMIT")
        except BaseException:
            self._roll_back(connection)
            raise
        return values

    def _begin(self) -> Connection:
        if self.connection is None:
            self.connection = engine().connect().execution_options(isolation_level="AUTOCOMMIT")
            self.connection.exec_driver_sql(f"PRAGMA busy_timeout = {self.busy_timeout_ms}")
        try:
            self.connection.exec_driver_sql("BEGIN IMMEDIATE")
        except exc.OperationalError as error:
            raise _Locked from error
        return self.connection

    def _roll_back(self, connection: Connection) -> None:
        """Undo what was begun; a connection that cannot do even that is replaced."""
        try:
            connection.exec_driver_sql("ROLLBACK")
        except exc.DBAPIError:
            connection.invalidate()
            connection.close()
            self.connection = None


class _Locked(Exception):
    """A transaction could not begin: a program that takes no turns is writing."""


@cache
def _groups() -> _Groups:
    return _Groups()


def clock() -> float:
    """Return the database's time, in Unix seconds."""
    return run(lambda connection: float(connection.execute(sqlalchemy.select(now())).scalar_one()))
