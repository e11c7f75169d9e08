"""One request of a call, and the socket that an abort shuts down."""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from net.call import AbortHook, Call


class Exchange(AbortHook):
    """One request in progress: what its connection reports, and the socket it uses."""

    def __init__(self, call: Call, fresh: bool = False) -> None:
        super().__init__(call)
        #: Whether the request must go over a new connection.
        self.fresh = fresh
        #: Whether its connection was used before.
        self.reused = False
        #: Whether the server may have read any part of the request.
        self.sent = False
        #: Whether the head of the answer was read.
        self.answered = False
        self._socket: socket.socket | None = None
        self._handle: int | None = None

    @contextmanager
    def as_current(self) -> Iterator[None]:
        """Watch the connection that this thread uses within the block."""
        current.exchange = self
        try:
            yield
        finally:
            current.exchange = None

    def end(self) -> None:
        super().end()
        with self.call.lock:
            self._close_handle()
        self._socket = None

    def watch(self, sock: socket.socket) -> None:
        """Let an abort shut `sock` down; raise the reason if the call was already aborted.

        Keeps a second file descriptor of the same connection. It stays valid through the TLS
        handshake and after http.client has released its socket. Shutting it down leaves the
        objects that a blocked reader uses alone, while closing those would not.
        """
        call = self.call
        with call.lock:
            if call.reason is not None:
                raise call.reason
            self._close_handle()
            self._handle = os.dup(sock.fileno())
        self._socket = sock

    def _close_handle(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def shutdown(self) -> None:
        if self._handle is None:
            return
        handle = socket.socket(fileno=self._handle)
        with suppress(OSError):  # The server had closed it already.
            handle.shutdown(socket.SHUT_RDWR)
        handle.detach()

    def tighten_timeout(self, seconds: float = float("inf")) -> None:
        """Limit the next read to `seconds`, and to the time until the deadline."""
        self.call.check()
        if self._socket is not None:
            with suppress(
                OSError
            ):  # The answer has been read to its end, and the socket is closed.
                self._socket.settimeout(max(0.001, min(seconds, self.call.seconds_left)))


class _Current(threading.local):
    """The exchange of this thread or greenlet."""

    exchange: Exchange | None = None


current = _Current()
