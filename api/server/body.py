"""A request's body as `wsgi.input`, in place of gunicorn's: bounded, whoever sends it, however.

gunicorn's parser of chunks is pure Python and never yields, and its reads have no deadline. Here it
is driven piece by piece: other greenlets run in between, a client that is too slow is cut off, and
a body of tiny chunks is refused. A body that nobody read is discarded as raw bytes, without being
parsed, and its connection is closed.
"""

import contextlib
import fcntl
import socket
import struct
import termios
import time
from collections.abc import Callable, Iterator
from typing import Any

import gevent
from gunicorn.http.body import ChunkedReader
from gunicorn.http.errors import ParseException

from api.server.pace import Pace
from models.errors import InvalidRequest, LikeDoError, RequestTimeout

#: The most chunks, and bytes, that are read before other greenlets run.
MAX_CHUNKS = 256
YIELD_BYTES = 256 * 1024
#: What the framing of chunks may take: so many bytes, and this part of the payload.
FRAMING_BYTES = 64 * 1024
FRAMING_DIVISOR = 16
#: Up to this size, a body that nobody read is read, so that its connection can be used again.
SMALL_BYTES = 64 * 1024
#: Bounds of what is read and discarded of any other, so that the client sees its answer: a
#: connection that is closed with unread bytes is reset.
DISCARD_BYTES = 64 * 1024 * 1024
DISCARD_SECONDS = 5


class _Counted:
    """A body with a `Content-Length`."""

    def __init__(self, unreader: Any, length: int) -> None:
        self.unreader = unreader
        self.left: int | None = length
        self.is_costly = False

    @property
    def at_end(self) -> bool:
        return self.left == 0

    def read(self, size: int) -> bytes:
        assert self.left is not None
        wanted = min(size, self.left)
        data: bytes = self.unreader.read(None, read_ahead=wanted)
        if len(data) > wanted:
            self.unreader.unread(data[wanted:])
            data = data[:wanted]
        self.left -= len(data)
        return data


class _Chunked:
    """A body in chunks, whose length is known at its end."""

    left = None

    def __init__(self, reader: Any) -> None:
        self.parser: Iterator[bytes] = reader.parser
        #: What was read beyond what was asked for.
        self.excess = b""
        #: The bytes of all chunks so far, without their framing.
        self.payload = 0
        self.is_over = self.is_costly = False

    @property
    def at_end(self) -> bool:
        return self.is_over and not self.excess

    def read(self, size: int) -> bytes:
        pieces, length = [self.excess], len(self.excess)
        while length < size and len(pieces) <= MAX_CHUNKS:
            if (piece := next(self.parser, None)) is None:
                self.is_over = True
                break
            pieces.append(piece)
            length += len(piece)
            self.payload += len(piece)
        self.is_costly = len(pieces) > MAX_CHUNKS
        data = b"".join(pieces)
        self.excess = data[size:]
        return data[:size]


class RequestBody:
    """The body of one request. After an error in reading it, its connection cannot be used."""

    def __init__(self, request: Any) -> None:
        """`request`: gunicorn's, whose body has not been read."""
        self._request = request
        self._unreader: Any = request.unreader
        self._socket: socket.socket = request.unreader.sock
        reader = request.body.reader
        self._framing: _Counted | _Chunked = (
            _Chunked(reader)
            if isinstance(reader, ChunkedReader)
            else _Counted(self._unreader, reader.length)
        )
        #: The most seconds that the whole body may take; by default they follow from its size.
        self.max_seconds: float | None = None
        self._pace: Pace | None = None
        self._since_yield = 0
        #: gunicorn closes the connection if it is set.
        self.failed = False
        # gunicorn would ask for every body, even one that is refused by its declared size.
        self._asks_first = request._expected_100_continue
        request._expected_100_continue = False

    @property
    def at_end(self) -> bool:
        """Whether the whole body was read."""
        return self._framing.at_end

    def is_at_hand(self) -> bool:
        """Tell whether the rest of the body has arrived; False if its length is not known."""
        if self._framing.left is None or self._framing.left > SMALL_BYTES:
            return False
        waiting = fcntl.ioctl(self._socket.fileno(), termios.FIONREAD, struct.pack("i", 0))
        buffered = len(self._unreader.buf.getvalue())
        return bool(buffered + struct.unpack("i", waiting)[0] >= self._framing.left)

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes as they arrive; b"" at the end, or if the client breaks off.

        Raises `RequestTimeout` if the client is too slow or too late, `InvalidRequest` if chunks
        are too small, gunicorn's `ParseException` if they are invalid, and `OSError`.
        """
        if self.at_end or self.failed:
            return b""
        self._ask_for_it()
        self._pace = self._pace or Pace(self._framing.left, self.max_seconds)
        try:
            with self._measured(self._pace):
                data = self._framing.read(size)
            self._check_framing(self._pace)
        except BaseException:
            self.failed = True
            raise
        self.failed = not data and not self.at_end
        self._yield_after(len(data))
        return data

    def _ask_for_it(self) -> None:
        if self._asks_first:
            self._asks_first = False
            self._socket.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")

    @contextlib.contextmanager
    def _measured(self, pace: Pace) -> Iterator[None]:
        """Let what gunicorn receives within the block be counted, and be cut off by `pace`."""
        receive: Callable[[int | None], bytes] = self._unreader.chunk

        def receive_in_time(size_hint: int | None = None) -> bytes:
            if (seconds := pace.seconds_left()) <= 0:
                raise _too_slow()
            self._socket.settimeout(seconds)
            try:
                data = receive(size_hint)
            except TimeoutError:
                raise _too_slow() from None
            finally:
                self._socket.settimeout(None)
            pace.count(len(data))
            return data

        self._unreader.chunk = receive_in_time
        try:
            yield
        finally:
            del self._unreader.chunk

    def _check_framing(self, pace: Pace) -> None:
        if not isinstance(self._framing, _Chunked):
            return
        payload = self._framing.payload
        if pace.received - payload > FRAMING_BYTES + payload // FRAMING_DIVISOR:
            raise InvalidRequest(
                "The body cannot be read: its chunks are so small that most of what was sent is "
                "their framing. Send larger chunks, or a Content-Length."
            )

    def _yield_after(self, size: int) -> None:
        self._since_yield += size
        if self._since_yield >= YIELD_BYTES or self._framing.is_costly:
            self._since_yield = 0
            gevent.sleep(0)

    def announce_close(self) -> None:
        """Let the answer, which is about to be sent, say that the connection will be closed."""
        if not self._can_be_read_to_its_end():
            self._request.force_close()

    def _can_be_read_to_its_end(self) -> bool:
        if self.at_end or self.failed or self._asks_first:
            return self.at_end
        return self._framing.left is not None and self._framing.left <= SMALL_BYTES

    def discard(self) -> bool:
        """Discard the rest, once the request is answered; tell whether another can follow."""
        if self._can_be_read_to_its_end():
            self._pace = Pace(self._framing.left, DISCARD_SECONDS)
            with contextlib.suppress(LikeDoError, ParseException, OSError):
                while self.read(SMALL_BYTES):
                    pass
        if self.at_end:
            return True
        with contextlib.suppress(OSError):
            self._discard_raw()
        return False

    def _discard_raw(self) -> None:
        # Clients that wait for the end of the connection get it now.
        self._socket.shutdown(socket.SHUT_WR)
        end, left = time.monotonic() + DISCARD_SECONDS, DISCARD_BYTES
        while left > 0 and (seconds := end - time.monotonic()) > 0:
            self._socket.settimeout(seconds)
            if not (data := self._socket.recv(SMALL_BYTES)):
                return
            left -= len(data)
            gevent.sleep(0)


def _too_slow() -> RequestTimeout:
    return RequestTimeout(
        "The body arrived too slowly, or took too long. Send it again over a faster connection, "
        "or a smaller one."
    )


def announcing_close(app: Callable[..., Any]) -> Callable[..., Any]:
    """Return the WSGI `app` with `Connection: close` in answers that leave a body unread."""

    def call(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        def start(*arguments: Any) -> Any:
            environ["wsgi.input"].announce_close()
            return start_response(*arguments)

        return app(environ, start)

    return call
