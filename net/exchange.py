"""One request of a call, as its connection sees it."""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from net.call import AbortHook, Call


class Exchange(AbortHook):
    """One request on its way, as its connection sees it."""

    def __init__(self, call: Call, fresh: bool = False) -> None:
        super().__init__(call)
        #: Do not use a connection that was used before.
        self.fresh = fresh
        self.reused = False
        #: Whether the server may have read something of the request.
        self.sent = False
        self.answered = False
        self._socket: socket.socket | None = None
        self._handle: int | None = None

    @contextmanager
    def is_current(self) -> Iterator[None]:
        """Let the connection that this thread takes now be the one to shut down."""
        current.exchange = self
        try:
            yield
        finally:
            current.exchange = None

    def end(self) -> None:
        super().end()
        with self.call.lock:
            self.forget()
        self._socket = None

    def watch(self, sock: socket.socket) -> None:
        """Take `sock` as the one to shut down; raise the reason if the call is already over.

        What is kept is a second handle to the same connection. It stays valid through the TLS
        handshake and after http.client has let go of its socket, and shutting it down disturbs
        none of the objects that a blocked reader stands in, as closing those would.
        """
        call = self.call
        with call.lock:
            if call.reason is not None:
                raise call.reason
            self.forget()
            self._handle = os.dup(sock.fileno())
        self._socket = sock

    def forget(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def shutdown(self) -> None:
        if self._handle is None:
            return
        handle = socket.socket(fileno=self._handle)
        with suppress(OSError):  # The other side was faster.
            handle.shutdown(socket.SHUT_RDWR)
        handle.detach()

    def tighten_timeout(self, seconds: float = float("inf")) -> None:
        """Let the next read outlast neither the deadline nor `seconds`."""
        self.call.check()
        if self._socket is not None:
            with suppress(OSError):  # It is closed: the answer has been read to its end.
                self._socket.settimeout(max(0.001, min(seconds, self.call.seconds_left)))


class _Current(threading.local):
    """The exchange that this thread, or greenlet, is busy with."""

    exchange: Exchange | None = None


current = _Current()
