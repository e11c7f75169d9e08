"""Become another program, one that ends when its parent does.

Run as a file of its own: `python leash.py PARENT PROGRAM ARGUMENT…`. Where the parent is killed
and cannot stop its children, the kernel tells them to; outside Linux they are left running.
"""

import contextlib
import ctypes
import os
import signal
import sys

#: See prctl(2); it stays in force through exec.
PR_SET_PDEATHSIG = 1


def become(parent: int, command: list[str]) -> None:
    """Replace this process by `command`, on a leash to the process `parent`."""
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() == parent:
        os.execv(command[0], command)


if __name__ == "__main__":
    become(int(sys.argv[1]), sys.argv[2:])
