"""A call to another server: its deadline, and how it is aborted from outside."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from models.errors import LikeDoError, ProviderTimeout


class Call:
    """One job's time with a provider: its deadline, and a way to end it early from outside.

    Several requests may run under one call concurrently.
    """

    def __init__(self, timeout_seconds: float) -> None:
        #: On the monotonic clock, in seconds.
        self.deadline = time.monotonic() + timeout_seconds
        #: The deadline of the current wait, if that is before the call's own.
        self._due = self.deadline
        #: Set when a provider is called: a job cancelled after that is charged.
        self.asked = False
        self._reason: LikeDoError | None = None
        self._aborted = threading.Event()
        #: Guards the hooks, and what each of them holds.
        self.lock = threading.Lock()
        self.hooks: set[AbortHook] = set()

    @property
    def seconds_left(self) -> float:
        """The seconds until the deadline of the call, or of the current wait."""
        return self._due - time.monotonic()

    @property
    def reason(self) -> LikeDoError | None:
        """The error that it was aborted with, if it was."""
        return self._reason

    @property
    def is_over(self) -> bool:
        """Whether it was aborted or its deadline is past, so that no more requests can be sent."""
        return self._reason is not None or self.deadline <= time.monotonic()

    def allow(self, seconds: float | None) -> None:
        """Let the next chunk take so many seconds; None: all the time until the deadline.

        A provider that only keeps the connection alive, without a chunk, gains no time by it.
        """
        due = self.deadline if seconds is None else time.monotonic() + seconds
        self._due = min(due, self.deadline)

    def abort(self, reason: LikeDoError) -> None:
        """End the call at once, with `reason`; the first reason given stays."""
        with self.lock:
            if self._reason is None:
                self._reason = reason
            self._aborted.set()
            for hook in self.hooks:
                hook.shutdown()

    def check(self) -> None:
        """Raise the reason that the call was aborted for; `ProviderTimeout` if its time is up."""
        if self._reason is not None:
            raise self._reason
        if self.seconds_left <= 0:
            raise ProviderTimeout("The provider did not answer in time.")

    def wait(self, seconds: float) -> None:
        """Wait; raise as `check` does as soon as there is a reason to."""
        self._aborted.wait(max(0.0, min(seconds, self.seconds_left)))
        self.check()


class AbortHook:
    """Something that ends when its call is aborted, such as a connection."""

    def __init__(self, call: Call) -> None:
        self.call = call

    def begin(self) -> None:
        """Let `Call.abort` shut it down."""
        with self.call.lock:
            self.call.hooks.add(self)

    def end(self) -> None:
        """Stop watching it. Idempotent."""
        with self.call.lock:
            self.call.hooks.discard(self)

    def shutdown(self) -> None:
        """End it now. Called under the call's lock, from the thread that aborts the call."""
        raise NotImplementedError


class _Callback(AbortHook):
    """A function that is called when the call is aborted."""

    def __init__(self, call: Call, function: Callable[[], object]) -> None:
        super().__init__(call)
        self._function = function

    def shutdown(self) -> None:
        self._function()


@contextmanager
def on_abort(call: Call, function: Callable[[], object]) -> Iterator[None]:
    """Call `function` when `call` is aborted; raise the reason if it already was."""
    hook = _Callback(call, function)
    hook.begin()
    try:
        call.check()
        yield
    finally:
        hook.end()


@contextmanager
def child_call(call: Call, seconds: float) -> Iterator[Call]:
    """Yield a call that ends with `call`, for the same reason, or after `seconds` at the latest.

    It then ends with `ProviderTimeout`, even in the middle of headers or a handshake that arrive
    byte by byte: a deadline alone bounds the wait for each of those bytes.
    """
    seconds = min(seconds, call.seconds_left)
    inner = Call(seconds)
    late = ProviderTimeout("The server did not answer in time.")
    timer = threading.Timer(seconds, inner.abort, [late])
    timer.daemon = True
    with on_abort(call, lambda: inner.abort(call.reason or late)):
        timer.start()
        try:
            yield inner
        finally:
            timer.cancel()
