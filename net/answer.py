"""The answer of another server, read within size and time limits."""

import http.client
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

import urllib3

from config.settings import MIB
from models.errors import LikeDoError, ProviderFailed
from net.exchange import Exchange
from net.sse import Parser

MAX_ANSWER_BYTES = 64 * MIB
#: Maximum bytes of one read, which returns what has arrived, even if that is less.
READ_BYTES = 64 * 1024
#: The data of the event that ends a stream of OpenAI's kind.
DONE = b"[DONE]"
#: How long to wait for the body's end after `DONE`, so that the connection can be reused. Opening a
#: new one would take longer.
DRAIN_SECONDS = 0.05

#: What the layers below raise. `OSError` is also the base of `requests.RequestException`.
FOREIGN_ERRORS = (OSError, urllib3.exceptions.HTTPError, http.client.HTTPException)


@dataclass(frozen=True, slots=True)
class Response:
    """A whole answer. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    content: bytes


class Answer:
    """An answer whose headers have arrived. Header names are in lower case.

    Its body can be read once: as a whole, or as the events of a stream.
    """

    def __init__(self, raw: urllib3.response.BaseHTTPResponse, exchange: Exchange) -> None:
        self.status = raw.status
        self.headers: Mapping[str, str] = {k.lower(): v for k, v in raw.headers.items()}
        self._raw = raw
        self._exchange = exchange
        self._is_compressed = "content-encoding" in self.headers
        self._size = 0
        #: The maximum size of the body in bytes.
        self.limit = MAX_ANSWER_BYTES
        self._buffered = b""
        self._is_done = False

    def whole(self) -> Response:
        """Read the body to its end and return the whole answer."""
        return Response(self.status, self.headers, b"".join(self.pieces()))

    def pieces(self) -> Iterator[bytes]:
        """Yield the body as it arrives, to its end; raises as `post` does."""
        if self._buffered:
            yield self._buffered
        while piece := self._read():
            yield piece

    def at_most(self, size: int) -> bytes:
        """Return the body, or its first `size` + 1 bytes if it is longer than `size`."""
        body = bytearray()
        while len(body) <= size and (piece := self._read(size + 1 - len(body))):
            body += piece
        return bytes(body)

    def has_events(self) -> bool:
        """Tell whether the body is an event stream, not JSON or a page, by its first byte.

        Waits for that byte.
        """
        while not self._buffered.strip() and (piece := self._read()):
            self._buffered += piece
        return self._buffered.lstrip()[:1] not in (b"{", b"[", b"<")

    def events(self) -> Iterator[bytes]:
        """Yield the data of each event as it arrives, up to `[DONE]` or the end of the body.

        Raises as `post` does, and `ProviderFailed` if an event is over 16 MiB.
        """
        for batch in self._batches():
            for data in batch:
                self._exchange.call.check()
                if data.startswith(DONE):
                    self._is_done = True
                    return
                yield data

    def close(self) -> None:
        """Return the connection to its pool; close it first if anything on it is unread."""
        try:
            if self._is_done and self._raw.connection is not None:
                self._drain()
            if self._raw.connection is not None:
                self._raw.close()
            self._raw.release_conn()
        finally:
            self._exchange.end()

    def _batches(self) -> Iterator[list[bytes]]:
        parser = Parser()
        for piece in self.pieces():
            yield parser.feed(piece)
        yield parser.end()

    def _read(self, max_bytes: int = READ_BYTES) -> bytes:
        """Return the next bytes of the body, as many as have arrived; b"" at its end."""
        self._exchange.tighten_timeout()
        piece = self._raw.read1(min(max_bytes, READ_BYTES), decode_content=self._is_compressed)
        if self._raw.connection is None:
            # At the body's end the connection went to the pool, where another call may take it.
            self._exchange.end()
        self._size += len(piece)
        if self._size > self.limit:
            raise ProviderFailed("The provider's answer is too large.")
        if not piece:
            # An abort looks like the end of the body.
            self._exchange.call.check()
        return piece

    def _drain(self) -> None:
        """Read the end of the body if it arrives at once; ignore errors and anything else."""
        with suppress(LikeDoError, *FOREIGN_ERRORS):
            self._exchange.tighten_timeout(DRAIN_SECONDS)
            self._raw.read1(READ_BYTES, decode_content=self._is_compressed)
