"""SQLite under gevent: all transactions of a process run in groups, with one commit each."""

import fcntl
import sys
import time
from collections.abc import Callable
from functools import cache
from typing import IO, Any, TypeVar

import gevent
from gevent.event import AsyncResult
from gevent.threadpool import ThreadPool
from sqlalchemy import Connection, exc

from database import engine

T = TypeVar("T")
Transaction = Callable[[Connection], T]

#: More would hold the write lock for longer than the others like to wait.
GROUP_SIZE = 64
#: The loop asks this often, at this distance, whether it is the process's turn at writing.
TURN_TRIES = 20
TURN_TRY_SECONDS = 0.0003
#: A group that took longer than this on the loop sends what follows to the thread, for a while.
SLOW_SECONDS = 0.02
SLOW_FOR_SECONDS = 1.0
SWITCH_SECONDS = 0.0005


_Outcome = tuple[Any, BaseException | None]


class _Groups:
    """Runs the transactions of all greenlets of a process, what waits as one group.

    While the database is free and the disk is quick, a group is run on the loop itself: the way
    to another thread and back costs more than the transaction. Where it would have to wait, for
    another process or for a slow disk, a real thread does, and the loop goes on.
    """

    def __init__(self) -> None:
        self.waiting: list[tuple[Transaction[Any], AsyncResult]] = []
        self.draining = False
        self.thread = ThreadPool(1)
        self.here = _Transactions(busy_timeout_ms=0)
        self.there = _Transactions(engine.BUSY_TIMEOUT_MS)
        self.slow_until = 0.0
        # The thread asks for the interpreter several times in a transaction, and would wait the
        # default of 5 ms each time while the loop is busy.
        sys.setswitchinterval(SWITCH_SECONDS)

    def run(self, work: Transaction[T]) -> T:
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

    def _run_group(self, group: list[Transaction[Any]]) -> list[_Outcome]:
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
            self.turn = open(f"{engine.engine().url.database}-turn", "w")  # noqa: SIM115  # kept open
        try:
            fcntl.flock(self.turn, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
        return True

    def run(self, group: list[Transaction[Any]]) -> list[_Outcome] | None:
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

    def _run(self, group: list[Transaction[Any]]) -> list[_Outcome]:
        try:
            return [(value, None) for value in self._commit(group)]
        except _Locked:
            raise
        except Exception as error:  # It is raised again in the greenlet that asked.
            if len(group) == 1:
                return [(None, error)]
        return [outcome for work in group for outcome in self._run([work])]

    def _commit(self, group: list[Transaction[Any]]) -> list[Any]:
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
            self.connection = (
                engine.engine().connect().execution_options(isolation_level="AUTOCOMMIT")
            )
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
def groups() -> _Groups:
    return _Groups()
