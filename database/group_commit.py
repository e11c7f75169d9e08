"""SQLite under gevent: all transactions of a process run in groups, with one commit each."""

import fcntl
import sqlite3
import sys
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeVar

import gevent
from gevent import monkey
from gevent.event import AsyncResult
from sqlalchemy import Connection, exc

from database import engine
from database.engine import NO_ANSWER, Transaction
from models.errors import Unavailable

T = TypeVar("T")

#: A larger group would hold the write lock for longer than other processes should wait.
GROUP_SIZE = 64
#: A transaction that has not begun after this long is given up, with a 503.
WAIT_SECONDS = 10.0
#: SQLite waits this long for its write lock before we check whether any caller still waits.
LOCK_TRY_MS = 1_000
#: The pauses between attempts to take the turn. Even the longest is short, since a busy process
#: leaves the turn free for about a millisecond only.
FIRST_PAUSE_SECONDS = 0.0002
MAX_PAUSE_SECONDS = 0.002
SWITCH_SECONDS = 0.0005

_Outcome = tuple[Any, BaseException | None]


@dataclass(eq=False)
class _Waiting:
    """A transaction that has not begun, and where its caller waits for what it returns."""

    transaction: Transaction[Any]
    outcome: AsyncResult = field(default_factory=AsyncResult)


class _Groups:
    """Runs the transactions of all greenlets of a process in one thread, in groups."""

    def __init__(self) -> None:
        self.waiting: deque[_Waiting] = deque()
        self.ended: list[tuple[_Waiting, _Outcome]] = []
        self.is_running = False
        self.transactions = _Transactions()
        # The thread asks for the interpreter several times in a transaction, and would wait the
        # default of 5 ms each time while the loop is busy.
        sys.setswitchinterval(SWITCH_SECONDS)
        self.loop = gevent.get_hub().loop
        self.start = monkey.get_original("queue", "SimpleQueue")()
        self.has_ended = self.loop.async_()
        self.has_ended.start(self._deliver)
        monkey.get_original("_thread", "start_new_thread")(self._serve, ())

    def run(self, transaction: Transaction[T]) -> T:
        waiting = _Waiting(transaction)
        self.waiting.append(waiting)
        self._start_group()
        waiting.outcome.wait(WAIT_SECONDS)
        if not waiting.outcome.ready():
            self._give_up(waiting)
        result: T = waiting.outcome.get()
        return result

    def _start_group(self) -> None:
        if not self.is_running:
            self.is_running = True
            # Greenlets that are ready run first: their transactions join the group.
            self.loop.run_callback(self.start.put, None)

    def _give_up(self, waiting: _Waiting) -> None:
        """Raise `Unavailable` unless the transaction has begun; then it is waited for."""
        try:
            self.waiting.remove(waiting)
        except ValueError:
            return
        raise Unavailable(NO_ANSWER)

    def _deliver(self) -> None:
        """Hand a group's outcomes to the greenlets that wait for them, and start the next."""
        ended, self.ended = self.ended, []
        self.is_running = False
        for waiting, (value, error) in ended:
            waiting.outcome.set_exception(error) if error else waiting.outcome.set(value)
        if self.waiting:
            self._start_group()

    def _serve(self) -> None:
        """Run group after group, in the thread, as long as the process lives."""
        while True:
            self.start.get()
            self.ended = self._run_group()
            self.has_ended.send()

    def _run_group(self) -> list[tuple[_Waiting, _Outcome]]:
        try:
            return self.transactions.run(self.waiting)
        except Exception as error:  # No caller may be left waiting.
            return [(waiting, (None, error)) for waiting in _take_group(self.waiting)]


def _take_group(waiting: deque[_Waiting]) -> list[_Waiting]:
    group: list[_Waiting] = []
    with suppress(IndexError):  # Callers may leave at any moment.
        while len(group) < GROUP_SIZE:
            group.append(waiting.popleft())
    return group


class _Transactions:
    """One connection to SQLite, used by one thread, with transactions begun and ended by hand.

    SQLAlchemy's own begin and commit cost several times what SQLite's do.
    """

    def __init__(self) -> None:
        self.connection: Connection | None = None
        self.turn: _Turn | None = None

    def run(self, waiting: deque[_Waiting]) -> list[tuple[_Waiting, _Outcome]]:
        """Run a group in one transaction; if a member fails, each in a transaction of its own.

        Nothing is taken out of `waiting` before the transaction has begun: until then callers may
        leave, and others join.
        """
        if self.turn is None:
            self.turn = _Turn(str(engine.engine().url.database))
        if not self.turn.take(waiting):
            return []
        try:
            if not self._begin_for(waiting):
                return []
            group = _take_group(waiting)
            outcomes = self._run([each.transaction for each in group])
            return list(zip(group, outcomes, strict=True))
        finally:
            self.turn.release()

    def _begin_for(self, waiting: deque[_Waiting]) -> bool:
        """Begin a transaction; return False if no caller waits for one any more.

        SQLite's lock is held by programs that take no turns, such as commands of `likedo`.
        """
        while waiting:
            try:
                self._begin()
                return True
            except exc.OperationalError as error:
                if not _is_busy(error):
                    raise
        return False

    def _run(self, group: list[Transaction[Any]]) -> list[_Outcome]:
        """Run a group in the transaction that has begun."""
        try:
            return [(value, None) for value in self._commit(group)]
        except Exception as error:  # It is raised again in the greenlet that waits.
            if len(group) == 1:
                return [(None, error)]
        return self._run_each(group)

    def _run_each(self, group: list[Transaction[Any]]) -> list[_Outcome]:
        outcomes: list[_Outcome] = []
        for transaction in group:
            try:
                self._begin()
            except Exception as error:
                # The rest of the group would fail likewise, each after a wait of its own.
                return outcomes + [(None, error)] * (len(group) - len(outcomes))
            outcomes += self._run([transaction])
        return outcomes

    def _commit(self, group: list[Transaction[Any]]) -> list[Any]:
        assert self.connection is not None
        try:
            values = [transaction(self.connection) for transaction in group]
            self.connection.exec_driver_sql("COMMIT")
        except BaseException:
            self._roll_back(self.connection)
            raise
        return values

    def _begin(self) -> None:
        if self.connection is None:
            connection = engine.engine().connect().execution_options(isolation_level="AUTOCOMMIT")
            connection.exec_driver_sql(f"PRAGMA busy_timeout = {LOCK_TRY_MS}")
            self.connection = connection
        self.connection.exec_driver_sql("BEGIN IMMEDIATE")

    def _roll_back(self, connection: Connection) -> None:
        """Roll back; replace the connection if that fails."""
        try:
            connection.exec_driver_sql("ROLLBACK")
        except exc.DBAPIError:
            connection.invalidate()
            connection.close()
            self.connection = None


def _is_busy(error: exc.OperationalError) -> bool:
    """Tell whether another connection has SQLite's write lock."""
    return getattr(error.orig, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY


class _Turn:
    """The turn at writing that processes take, by a lock on a file beside the database.

    SQLite's own wait for its lock pauses for longer and longer, up to 100 ms.
    """

    def __init__(self, database: str) -> None:
        self.file = open(f"{database}-turn", "w")  # noqa: SIM115  # kept open

    def take(self, waiting: deque[_Waiting]) -> bool:
        """Wait for the turn as long as callers are `waiting`; tell whether it was taken."""
        # A stopped process keeps its locks, so a call that blocks might never return.
        sleep = monkey.get_original("time", "sleep")  # gevent's would need a loop in this thread.
        pause = FIRST_PAUSE_SECONDS
        while waiting:
            try:
                fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except BlockingIOError:
                sleep(pause)
                pause = min(pause * 1.1, MAX_PAUSE_SECONDS)
        return False

    def release(self) -> None:
        fcntl.flock(self.file, fcntl.LOCK_UN)


@cache
def groups() -> _Groups:
    return _Groups()
