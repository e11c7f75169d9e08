"""Run a program and record its calls: `python -m bench.tracing FOLDER worker.py`.

Or `FOLDER -m MODULE …`. Each call of one of the product's functions becomes a line of
`FOLDER/PID.calls`: the time, the stack of the product's functions (as a hash), the function, its
nearest caller, and its nearest caller outside of `STORED`.
"""

import _thread
import os
import runpy
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
NO_PRODUCT = ("tests", "bench", "migrations", ".venv")
#: The folders that all code reads and writes through: tables, settings, the database.
STORED = ("models/", "config/", "database/")
NO_CALLER = "-"


class Tracer:
    """The profile function of all threads and greenlets of a process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: dict[CodeType, str | None] = {}
        #: The position in its code at which each function was first called.
        self.starts: dict[CodeType, int] = {}
        self.file, self.pid = -1, 0

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and (called := self.name(frame.f_code)) and not self.is_resumed(frame):
            callers = self.callers(frame)
            outside = (name for name in callers if not name.startswith(STORED))
            stack = hash((called, *callers))
            self.write(stack, called, next(iter(callers), NO_CALLER), next(outside, NO_CALLER))

    def is_resumed(self, frame: FrameType) -> bool:
        """Tell whether a generator was resumed after a `yield`, which is no call."""
        return self.starts.setdefault(frame.f_code, frame.f_lasti) != frame.f_lasti

    def callers(self, frame: FrameType) -> list[str]:
        """Return the product's functions that called a frame, nearest first."""
        names = []
        caller = frame.f_back
        while caller is not None:
            if name := self.name(caller.f_code):
                names.append(name)
            caller = caller.f_back
        return names

    def name(self, code: CodeType) -> str | None:
        """Return `file:function` of a function of the product; None for any other."""
        if code not in self.names:
            self.names[code] = _name(code)
        return self.names[code]

    def write(self, stack: int, *names: str) -> None:
        if self.pid != os.getpid():  # gunicorn has forked.
            self.pid = os.getpid()
            path = self.folder / f"{self.pid}.calls"
            self.file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(self.file, f"{time.monotonic()} {stack} {' '.join(names)}\n".encode())


def _name(code: CodeType) -> str | None:
    path = Path(code.co_filename)
    if code.co_name == "<module>" or not path.is_relative_to(ROOT):
        return None
    inside = path.relative_to(ROOT)
    return None if inside.parts[0] in NO_PRODUCT else f"{inside}:{code.co_qualname}"


def install(tracer: Tracer) -> None:
    """Trace this thread, and every thread that starts from now on."""
    start = _thread.start_new_thread

    def start_traced(run: Callable[..., object], *arguments: Any) -> int:
        def traced(*its: Any, **named: Any) -> None:
            sys.setprofile(tracer)
            run(*its, **named)

        return start(traced, *arguments)

    _thread.start_new_thread = start_traced
    sys.setprofile(tracer)


def main() -> None:
    folder, program = Path(sys.argv[1]), sys.argv[2:]
    install(Tracer(folder))
    if program[0] == "-m":
        sys.argv = program[1:]
        runpy.run_module(program[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = program
        runpy.run_path(program[0], run_name="__main__")


if __name__ == "__main__":
    main()
