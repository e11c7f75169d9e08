"""The answer of another server, read within limits."""

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
#: Bytes asked for at once; a read returns what has come, be it less.
READ_BYTES = 64 * 1024
#: How an event stream of OpenAI's kind says that nothing follows.
DONE = b"[DONE]"
#: What may pass between that and the end of the body, for the connection to be used again. A new
#: one would take longer.
PARTING_SECONDS = 0.05

#: What the layers below us raise. `OSError` is the parent of `requests.RequestException` too.
FOREIGN = (OSError, urllib3.exceptions.HTTPError, http.client.HTTPException)


@dataclass(frozen=True, slots=True)
class Response:
    """A whole answer. The names of the headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    content: bytes


class Answer:
    """An answer whose headers have come. The names of the headers are in lower case.

    Its body is read once: as a whole, or as the events of a stream.
    """

    def __init__(self, raw: urllib3.response.BaseHTTPResponse, exchange: Exchange) -> None:
        self.status = raw.status
        self.headers: Mapping[str, str] = {k.lower(): v for k, v in raw.headers.items()}
        self._raw = raw
        self._exchange = exchange
        self._is_squeezed = "content-encoding" in self.headers
        self._size = 0
        #: The most bytes of a body that are read.
        self.limit = MAX_ANSWER_BYTES
        self._first = b""
        self._done = False

    def whole(self) -> Response:
        """Read to the end and return all of it."""
        return Response(self.status, self.headers, b"".join(self.pieces()))

    def pieces(self) -> Iterator[bytes]:
        """Yield the body as it comes, to its end; raises as `post` does."""
        if self._first:
            yield self._first
        while piece := self._read():
            yield piece

    def at_most(self, size: int) -> bytes:
        """Read to the end, or to one byte beyond `size`, and return what was read."""
        found = bytearray()
        while len(found) <= size and (piece := self._read(size + 1 - len(found))):
            found += piece
        return bytes(found)

    def has_events(self) -> bool:
        """Wait for the first byte of the body and tell by it events from JSON or a page."""
        while not self._first.strip() and (piece := self._read()):
            self._first += piece
        return self._first.lstrip()[:1] not in (b"{", b"[", b"<")

    def events(self) -> Iterator[bytes]:
        """Yield the data of each event as it comes, up to `[DONE]` or the end of the body.

        Raises as `post` does, and `ProviderFailed` where an event is over 16 MiB.
        """
        for batch in self._batches():
            for data in batch:
                self._exchange.call.check()
                if data.startswith(DONE):
                    self._done = True
                    return
                yield data

    def close(self) -> None:
        """Return the connection to its pool; one with something unread on it is closed first."""
        try:
            if self._done and self._raw.connection is not None:
                self._part()
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
        """Return the next bytes of the body, as many as have come; none at its end."""
        self._exchange.tighten_timeout()
        piece = self._raw.read1(min(max_bytes, READ_BYTES), decode_content=self._is_squeezed)
        if self._raw.connection is None:
            # Read to its end, it is in the pool already, and may be another call's.
            self._exchange.end()
        self._size += len(piece)
        if self._size > self.limit:
            raise ProviderFailed("The provider's answer is too large.")
        if not piece:
            # The end of the body may have been the abort.
            self._exchange.call.check()
        return piece

    def _part(self) -> None:
        """Read the end of the body if it comes at once; what else there is does not matter."""
        with suppress(LikeDoError, *FOREIGN):
            self._exchange.tighten_timeout(PARTING_SECONDS)
            self._raw.read1(READ_BYTES, decode_content=self._is_squeezed)
