"""The watchdog of the event loop: it logs whatever keeps the loop from running for too long.

While one greenlet computes, no other runs: connections wait, leases lapse. greenlet calls `trace`
at every switch, so it has to cost next to nothing. A hold is measured by the wall clock, which is
cheap to read; the CPU time of the thread, which costs a system call, is read once a millisecond
at most, and when a hold has been long.
"""

import os
import time
from types import FrameType
from typing import Any

import gevent
import greenlet
import structlog

from config.settings import settings

log = structlog.get_logger()

#: How old a reading of the CPU time may be, which makes a hold look shorter by as much.
SAMPLE_SECONDS = 0.001


def start() -> None:
    """Watch the loop of this thread from now on, for as long as it runs."""
    greenlet.settrace(_Watchdog(settings.loop_hold_milliseconds / 1000).trace)


class _Watchdog:
    def __init__(self, hold_seconds: float) -> None:
        self._hold_seconds = hold_seconds
        self._hub = gevent.get_hub()
        #: When the hub handed over to the greenlet that is running.
        self._began_at = time.perf_counter()
        #: The last reading of the thread's CPU time, and when that was.
        self._cpu = time.thread_time()
        self._cpu_at = self._began_at

    def trace(self, _event: str, switch: tuple[Any, Any]) -> None:
        """Note a switch. An error here would be raised in the loop itself."""
        origin, target = switch
        now = time.perf_counter()
        if origin is self._hub:
            self._began_at = now
            if now - self._cpu_at > SAMPLE_SECONDS:
                self._cpu, self._cpu_at = time.thread_time(), now
        elif target is self._hub and now - self._began_at > self._hold_seconds:
            self._check(origin)

    def _check(self, origin: Any) -> None:
        """Log the hold that ends now, unless the thread was only kept waiting meanwhile."""
        # All that was used since the reading, but for what others can have used before the hold.
        used = time.thread_time() - self._cpu - (self._began_at - self._cpu_at)
        if used > self._hold_seconds:
            log.warning("loop.held", milliseconds=round(used * 1000), by=_name(origin))


def _name(origin: Any) -> str:
    """Return where a greenlet of ours paused, as `file:line function`, or what it ran."""
    frame: FrameType | None = origin.gr_frame
    while frame is not None and _is_of_others(frame.f_code.co_filename):
        frame = frame.f_back
    if frame is None:
        return repr(getattr(origin, "_run", None) or origin)[:200]
    name = os.path.relpath(frame.f_code.co_filename, _ROOT)
    return f"{name}:{frame.f_lineno} {frame.f_code.co_name}"


_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def _is_of_others(filename: str) -> bool:
    return not filename.startswith(_ROOT) or "site-packages" in filename
