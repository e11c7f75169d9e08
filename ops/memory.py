"""Gives freed memory back to the system, which the C library keeps for itself otherwise.

A process that has read large bodies would stay as large as it was at its largest moment.
"""

import ctypes

import gevent

#: How often memory is given back. It takes a millisecond or so, in a thread of its own.
TRIM_SECONDS = 10


def start() -> None:
    """Give freed memory back from now on, if the C library can do so; glibc can."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError):
        return
    gevent.spawn(_trim_again_and_again, trim)


def _trim_again_and_again(trim: "ctypes._NamedFuncPointer") -> None:
    pool = gevent.get_hub().threadpool
    while True:
        gevent.sleep(TRIM_SECONDS)
        pool.spawn(trim, 0).get()
