"""Starts Python processes that need not import what others wrote: forks of one that has.

Most of the time that a web process or a worker takes to start goes into imports, and the tests
start hundreds of them. The ones here run the same commands in the same environment, with a working
folder, a session, signals and output of their own; what is ours is imported by each for itself.
"""

import atexit
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

_lock = Lock()

#: What web processes and workers import of others.
LIBRARIES = (
    *("cachetools", "flask", "gunicorn.app.wsgiapp", "gunicorn.workers.ggevent", "hiredis"),
    *("orjson", "PIL.Image", "PIL.ImageFile", "psycopg", "pydantic_settings", "redis", "requests"),
    *("rq", "rq.worker", "sqlalchemy.dialects.postgresql", "sqlalchemy.dialects.sqlite"),
    *("sqlmodel", "standardwebhooks", "structlog", "structlog.dev"),
)


class Fork:
    """A process that was forked, as far as a `Popen` is wanted of it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._handle = os.pidfd_open(pid)

    def poll(self) -> int | None:
        return self._ended(0)

    def wait(self, timeout: float | None = None) -> int:
        if (code := self._ended(timeout)) is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            signal.pidfd_send_signal(self._handle, number)

    def _ended(self, timeout: float | None) -> int | None:
        if self.returncode is not None:
            return self.returncode
        ended = select.poll()
        ended.register(self._handle, select.POLLIN)
        if ended.poll(None if timeout is None else timeout * 1000):
            self.returncode = int(_ask(reap=self.pid))
            os.close(self._handle)
        return self.returncode


def start(arguments: list[str], env: Mapping[str, str], folder: Path, log: Path) -> Fork:
    """Start `python *arguments`, which are `-m MODULE …` or `FILE …`, with its output in `log`."""
    command = {"arguments": arguments, "env": dict(env), "folder": str(folder), "log": str(log)}
    return Fork(int(_ask(start=command)))


def _ask(**what: Any) -> Any:
    parent = _parent()
    assert parent.stdin is not None and parent.stdout is not None
    with _lock:
        print(json.dumps(what), file=parent.stdin, flush=True)
        answer = parent.stdout.readline()
    assert answer, "The process that others are forked from is no more: see standard error."
    return json.loads(answer)


@cache
def _parent() -> "subprocess.Popen[str]":
    from tests.stack import ROOT, clean_environment

    parent = subprocess.Popen(
        [sys.executable, "-m", "tests.warm"],
        cwd=ROOT,
        env=clean_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    atexit.register(parent.communicate)  # Its input ends, and so does it.
    return parent


# ---- Its own process -----------------------------------------------------------------------------


def main() -> None:
    from gevent import monkey

    monkey.patch_all()
    import gc
    import importlib

    for name in LIBRARIES:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()

    # gevent's own would make a loop, which no fork shall have yet.
    fork, wait = monkey.get_original("os", "fork"), monkey.get_original("os", "waitpid")
    while line := sys.stdin.readline():
        what = json.loads(line)
        if "reap" in what:
            answer = os.waitstatus_to_exitcode(wait(what["reap"], 0)[1])
        elif (answer := fork()) == 0:
            break
        print(answer, flush=True)
    else:
        return
    _become(**what["start"])


def _become(arguments: list[str], env: dict[str, str], folder: str, log: str) -> None:
    """Be what was asked for: as `python *arguments` would be, in a session of its own."""
    import runpy

    from gunicorn.config import Chdir

    os.setsid()
    os.chdir(folder)
    # It took the folder in which it was imported for that of every server.
    Chdir.default = folder
    os.environ.clear()
    os.environ.update(env)
    nothing = os.open(os.devnull, os.O_RDONLY)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for descriptor, number in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(descriptor, number)
    os.close(nothing)
    os.close(output)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(write_through=True)  # type: ignore[union-attr]  # they are text files
    if arguments[0] == "-m":
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = arguments
        runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    main()
