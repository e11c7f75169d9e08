"""The client's side of a connection: whether it has disconnected, and a callback for when it does.

WSGI does not report it. gunicorn passes the socket down in the environment; end of file on it,
before any byte of a next request, means that the client has disconnected.
"""

import socket
import struct
from collections.abc import Callable
from typing import Any

import gevent
from flask import request

#: nginx's status for a request whose client did not wait. It appears only in our own log.
CLIENT_CLOSED_REQUEST = 499


class ClientDisconnected(Exception):
    """The client disconnected before anything was done for it, so there is no one to answer."""


class Client:
    """The client of one request. It never disconnects if the server does not pass its socket."""

    def __init__(self, connection: socket.socket | None) -> None:
        self.connection = connection
        self.watcher: Any = None

    def is_disconnected(self) -> bool:
        """Tell whether the client has closed its side, without waiting."""
        return self._peek() == b""

    def reset(self) -> None:
        """Break the connection off with a reset instead of an orderly end.

        An HTTP/1.0 response ends with its connection; only a reset shows that it is incomplete.
        """
        self.unwatch()  # A watcher must not outlive its file descriptor.
        if self.connection is not None:
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.connection.close()

    def watch(self, on_disconnect: Callable[[], None]) -> None:
        """Call `on_disconnect` once when the client closes its side; `unwatch` ends the watch."""
        if self.connection is None or not hasattr(self.connection, "_sock"):
            return
        self.unwatch()
        self.watcher = gevent.get_hub().loop.io(self.connection.fileno(), 1)
        self.watcher.start(self._on_readable, on_disconnect)

    def unwatch(self) -> None:
        """Stop watching, if the client is being watched."""
        if self.watcher is not None:
            self.watcher.stop()
            self.watcher.close()
            self.watcher = None

    def _on_readable(self, on_disconnect: Callable[[], None]) -> None:
        peeked = self._peek()
        if peeked is None:
            return
        # Bytes of a next request hide a disconnect behind them, and would wake us again and again.
        self.unwatch()
        if peeked == b"":
            on_disconnect()

    def _peek(self) -> bytes | None:
        """Return the next unread byte, b"" at end of file, None if nothing has arrived."""
        raw = getattr(self.connection, "_sock", None)
        if raw is None:
            return None
        try:
            peeked: bytes = raw.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return None
        except OSError:
            return b""
        return peeked


def current() -> Client:
    """Return the client of the request being answered."""
    return Client(request.environ.get("gunicorn.socket"))
