"""The client's side of the connection: has it gone, and tell me when it goes.

WSGI does not say. gunicorn hands the socket down in the environment, and the end of what the
client sends, before anything else of it has come, is a hang-up.
"""

import socket
import struct
from collections.abc import Callable
from typing import Any

import gevent
from flask import request

#: What our own log calls a request whose client did not wait; nobody else sees it.
GONE_STATUS = 499


class Gone(Exception):
    """The client went away before anything was done for it: nobody is there to be answered."""


class Client:
    """One request's client. Where the server does not hand its socket down, it never goes."""

    def __init__(self, connection: socket.socket | None) -> None:
        self.connection = connection
        self.watcher: Any = None

    def gone(self) -> bool:
        """Tell whether the client has closed its side, without waiting."""
        return self._peek() == b""

    def reset(self) -> None:
        """Break the connection off with a reset, not an end.

        An answer of HTTP/1.0 ends where the connection does; only a reset says it is not whole.
        """
        if self.connection is not None:
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.connection.close()

    def watch(self, on_hang_up: Callable[[], None]) -> None:
        """Call `on_hang_up` once when the client closes its side; `leave` ends the watch."""
        if self.connection is None or not hasattr(self.connection, "_sock"):
            return
        self.watcher = gevent.get_hub().loop.io(self.connection.fileno(), 1)
        self.watcher.start(self._readable, on_hang_up)

    def leave(self) -> None:
        """Stop watching."""
        if self.watcher is not None:
            self.watcher.stop()
            self.watcher.close()
            self.watcher = None

    def _readable(self, on_hang_up: Callable[[], None]) -> None:
        seen = self._peek()
        if seen is None:
            return
        # Bytes of a next request hide a hang-up behind them, and would wake us for ever.
        self.leave()
        if seen == b"":
            on_hang_up()

    def _peek(self) -> bytes | None:
        """Return one byte that waits to be read, b"" at the end, None where nothing waits."""
        raw = getattr(self.connection, "_sock", None)
        if raw is None:
            return None
        try:
            seen: bytes = raw.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return None
        except OSError:
            return b""
        return seen


def current() -> Client:
    """Return the client of the request being answered."""
    return Client(request.environ.get("gunicorn.socket"))
