"""A supervisor of child processes: starts, restarts and stops them, and merges their logs.

Threads read and wait; the main thread makes every decision, one event after another.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from queue import SimpleQueue

import click

#: The script that gives a child its parent-death signal.
PARENT_DEATH = Path(__file__).with_name("parent_death.py")

#: A process that has not ended this long after SIGTERM is killed.
STOP_SECONDS = 25
#: A process that dies sooner than this after its start counts as a quick death.
QUICK_SECONDS = 5
#: After this many quick deaths in a row everything is stopped.
MAX_QUICK_DEATHS = 4
#: The delay before the restart after the first quick death; doubled with each further one.
BACKOFF_SECONDS = 0.5
#: Last log lines of a crashing process that are repeated.
LAST_LINES = 20
#: The delay between two readiness checks.
PROBE_SECONDS = 0.1

COLOURS = ("green", "cyan", "yellow", "magenta")


class CrashLoop(click.ClickException):
    """A process dies each time soon after its start."""


class Log:
    """One log for all processes; each line begins with the process's name."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.prefixes: dict[str, str] = {}

    def write(self, name: str, line: str) -> None:
        """Write one line of a process's output."""
        self._print(self._prefix(name) + line)

    def announce(self, text: str) -> None:
        """Write a message of `likedo up` itself, without a prefix."""
        self._print(text)

    def _prefix(self, name: str) -> str:
        if name not in self.prefixes:
            colour = COLOURS[len(self.prefixes) % len(COLOURS)]
            self.prefixes[name] = click.style(f"{name} | ", fg=colour)
        return self.prefixes[name]

    def _print(self, text: str) -> None:
        with self.lock:
            try:
                click.echo(text)
            except OSError:
                # The log's reader is gone; the processes go on.
                return


class Child:
    """One program that is kept running."""

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """`command` begins with the program's full path."""
        self.name = name
        self.command = list(command)
        self.environment = dict(environment)
        self.last_lines: deque[str] = deque(maxlen=LAST_LINES)
        self.quick_deaths = 0
        self.process: subprocess.Popen[str] | None = None
        self.started_at = 0.0
        self.over = threading.Event()

    def start(self, log: Log, lock: int, died: Callable[[], None]) -> None:
        """Start it in its own session, with `lock` inherited; call `died` when it has ended.

        Must be called in the main thread: on Linux a child ends with the thread that started it.
        """
        self.over.clear()
        self.started_at = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-I", str(PARENT_DEATH), str(os.getpid()), *self.command],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            pass_fds=[lock],
            start_new_session=True,
        )
        reader = threading.Thread(target=self._read, args=(self.process, log), daemon=True)
        reader.start()
        threading.Thread(target=self._wait, args=(self.process, reader, died), daemon=True).start()

    def _read(self, process: "subprocess.Popen[str]", log: Log) -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                self.last_lines.append(line.rstrip("\n"))
                log.write(self.name, self.last_lines[-1])

    def _wait(
        self,
        process: "subprocess.Popen[str]",
        reader: threading.Thread,
        died: Callable[[], None],
    ) -> None:
        process.wait()
        # Its own children may keep the pipe open, so the wait is bounded.
        reader.join(timeout=1)
        self.over.set()
        died()

    def stop(self) -> None:
        """Send SIGTERM and wait for the end; after `STOP_SECONDS` kill it and its children."""
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        if not self.over.wait(STOP_SECONDS):
            os.killpg(self.process.pid, signal.SIGKILL)
            self.over.wait()

    def count_death(self) -> None:
        """Count a quick death; any other death resets the count."""
        quick = time.monotonic() - self.started_at < QUICK_SECONDS
        self.quick_deaths = self.quick_deaths + 1 if quick else 0

    def how_it_ended(self) -> str:
        """Return the signal or exit status that it ended with."""
        code = self.process.returncode if self.process else 0
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"


class Supervisor:
    """Child processes that are kept running together until a stop is requested."""

    def __init__(self, log: Log, lock: int) -> None:
        self.log = log
        #: A file descriptor that every child inherits.
        self.lock = lock
        #: In the order in which they were started.
        self.children: list[Child] = []
        self.events: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self.stopping = threading.Event()

    def start(self, child: Child) -> None:
        """Start `child` and keep it running."""
        self.children.append(child)
        self._start(child)

    def when(self, ready: Callable[[], bool], then: Callable[[], None]) -> None:
        """Call `then` in the main thread once `ready` returns true; another thread polls it."""

        def poll() -> None:
            while not ready():
                if self.stopping.wait(PROBE_SECONDS):
                    return
            self.events.put(then)

        threading.Thread(target=poll, daemon=True).start()

    def keep_running(self) -> None:
        """Handle events until a stop is requested; raise `CrashLoop` if a child keeps dying."""
        try:
            while (event := self.events.get()) is not None:
                event()
        finally:
            self.stopping.set()

    def request_stop(self, *_: object) -> None:
        """Make `keep_running` return; may be called from any thread and from signal handlers."""
        self.events.put(None)

    def stop(self, child: Child) -> None:
        """Stop `child`, and wait until it has ended."""
        self.stopping.set()
        child.stop()

    def _start(self, child: Child) -> None:
        child.start(self.log, self.lock, lambda: self.events.put(partial(self._died, child)))

    def _died(self, child: Child) -> None:
        child.count_death()
        if child.quick_deaths >= MAX_QUICK_DEATHS:
            raise CrashLoop(_crash_report(child))
        delay = BACKOFF_SECONDS * 2**child.quick_deaths / 2
        self.log.announce(
            f"{child.name} ended unexpectedly ({child.how_it_ended()}); "
            f"it is started again in {delay:g} s."
        )
        restart = threading.Timer(delay, self.events.put, [partial(self._start, child)])
        restart.daemon = True
        restart.start()


def _crash_report(child: Child) -> str:
    lines = "\n".join(f"    {line}" for line in child.last_lines) or "    (nothing)"
    return f"{child.name} keeps dying ({child.how_it_ended()}). Its last output:\n{lines}"
