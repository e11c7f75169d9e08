"""Replace this process by another program that ends when its parent does.

Run as a script: `python parent_death.py PARENT PROGRAM ARGUMENT…`. If the parent is killed and
cannot stop its children, the kernel signals them; outside Linux they keep running.
"""

import contextlib
import ctypes
import os
import signal
import sys

#: See prctl(2); it stays in force through exec.
PR_SET_PDEATHSIG = 1


def become(parent: int, command: list[str]) -> None:
    """Replace this process by `command`, which gets SIGTERM when the process `parent` dies."""
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() == parent:
        os.execv(command[0], command)


if __name__ == "__main__":
    become(int(sys.argv[1]), sys.argv[2:])
