"""A call to other servers: its deadline, and how it is aborted from outside."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from models.errors import LikeDoError, ProviderTimeout


class Call:
    """The requests of one job: their deadline, and a way to end them early from outside.

    Several requests may run under one call concurrently.
    """

    def __init__(self, timeout_seconds: float, source: str = "") -> None:
        #: Whom it is for, in words of the caller's own: what is scarce is shared fairly by sources.
        self.source = source
        #: On the monotonic clock, in seconds.
        self.deadline = time.monotonic() + timeout_seconds
        #: The deadline of the current wait, if that is before the call's own.
        self._due = self.deadline
        #: Set when a provider is called: a job cancelled after that is charged.
        self.was_provider_called = False
        self._reason: LikeDoError | None = None
        self._aborted = threading.Event()
        #: Guards the hooks and their state.
        self.lock = threading.Lock()
        self.hooks: set[AbortHook] = set()

    @property
    def seconds_left(self) -> float:
        """The seconds until the deadline of the call, or of the current wait."""
        return self._due - time.monotonic()

    @property
    def reason(self) -> LikeDoError | None:
        """The error that the call was aborted with; None if it was not."""
        return self._reason

    @property
    def is_over(self) -> bool:
        """Whether it was aborted or its deadline has passed: no more requests can be sent."""
        return self._reason is not None or self.deadline <= time.monotonic()

    def allow(self, seconds: float | None) -> None:
        """Allow `seconds` for the next chunk; None: all the time until the deadline.

        Keep-alives without a chunk do not extend it.
        """
        due = self.deadline if seconds is None else time.monotonic() + seconds
        self._due = min(due, self.deadline)

    def abort(self, reason: LikeDoError) -> None:
        """End the call at once, with `reason`; a later reason does not replace the first."""
        with self.lock:
            if self._reason is None:
                self._reason = reason
            self._aborted.set()
            for hook in self.hooks:
                hook.shutdown()

    def check(self) -> None:
        """Raise the reason if the call was aborted; `ProviderTimeout` if its time is up."""
        if self._reason is not None:
            raise self._reason
        if self.seconds_left <= 0:
            raise ProviderTimeout("The provider did not answer in time.")

    def wait(self, seconds: float) -> None:
        """Wait for `seconds`; raise as `check` does as soon as the call is over."""
        self._aborted.wait(max(0.0, min(seconds, self.seconds_left)))
        self.check()


class AbortHook:
    """Something that ends when its call is aborted, such as a connection."""

    def __init__(self, call: Call) -> None:
        self.call = call

    def begin(self) -> None:
        """Let `Call.abort` shut it down from now on."""
        with self.call.lock:
            self.call.hooks.add(self)

    def end(self) -> None:
        """Let `Call.abort` no longer shut it down. Idempotent."""
        with self.call.lock:
            self.call.hooks.discard(self)

    def shutdown(self) -> None:
        """End it now. Called under the call's lock, in the thread that aborts the call."""
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
    """Call `function` if `call` is aborted within the block; raise if the call is already over."""
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

    After `seconds` it ends with `ProviderTimeout`, even in the middle of headers or a handshake
    that arrive byte by byte: a deadline alone bounds only the wait for each byte.
    """
    seconds = min(seconds, call.seconds_left)
    inner = Call(seconds, call.source)
    late = ProviderTimeout("The server did not answer in time.")
    timer = threading.Timer(seconds, inner.abort, [late])
    timer.daemon = True
    with on_abort(call, lambda: inner.abort(call.reason or late)):
        timer.start()
        try:
            yield inner
        finally:
            timer.cancel()
