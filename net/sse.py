"""A parser of server-sent events: takes bytes in pieces of any size, returns the data of events.

It follows the HTML standard, section "Parsing an event stream", with two exceptions. The end of the
body completes an event, since some vendors leave out the last empty line. JSON without `data:` is
an event, too: Gemini reports a failure in the middle of a stream that way.
"""

from config.settings import MIB
from models.errors import ProviderFailed

#: The maximum size of an event. An image in base64 takes some MiB.
MAX_EVENT_BYTES = 16 * MIB

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Parser:
    """Splits an event stream into events, and keeps the one that is not complete yet."""

    def __init__(self) -> None:
        self._begun = False
        #: Whether the last byte was a carriage return, so that a line feed belongs to it.
        self._after_return = False
        #: The pieces of the line that has not ended, and their size.
        self._line: list[bytes] = []
        self._line_bytes = 0
        #: The data lines of the event that has not ended, and their size.
        self._data: list[bytes] = []
        self._data_bytes = 0
        #: Whether the event is JSON without `data:`; it ends with an empty line.
        self._is_bare = False

    def feed(self, piece: bytes) -> list[bytes]:
        """Return the data of the events that `piece` completes.

        Raises `ProviderFailed` if the incomplete event is larger than `MAX_EVENT_BYTES`.
        """
        events = [data for line in self._lines(piece) if (data := self._take(line)) is not None]
        if self._line_bytes + self._data_bytes > MAX_EVENT_BYTES:
            raise ProviderFailed("The provider sent an event that is too large.")
        return events

    def end(self) -> list[bytes]:
        """Return the data of the event that the end of the body completes, if any."""
        return self.feed(b"\n\n")

    def _lines(self, piece: bytes) -> list[bytes]:
        """Return the lines that `piece` completes."""
        if self._after_return or b"\r" in piece:
            piece = self._with_line_feeds(piece)
        *lines, rest = piece.split(b"\n")
        if lines:
            lines[0] = self._completed(lines[0])
        if rest:
            self._line.append(rest)
            self._line_bytes += len(rest)
        return lines

    def _with_line_feeds(self, piece: bytes) -> bytes:
        if self._after_return:
            piece = piece.removeprefix(b"\n")
        self._after_return = piece.endswith(b"\r")
        return piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _completed(self, end: bytes) -> bytes:
        """Return the whole line whose last part is `end`."""
        line = b"".join((*self._line, end))
        self._line, self._line_bytes = [], 0
        if not self._begun:
            self._begun = True
            line = line.removeprefix(_BYTE_ORDER_MARK)
        return line

    def _take(self, line: bytes) -> bytes | None:
        """Add a line to the event; return its data if the line is empty and so ends it."""
        if not line:
            return self._event()
        self._is_bare = self._is_bare or line.startswith(b"{")
        if self._is_bare:
            self._keep(line)
            return None
        name, _, value = line.partition(b":")
        if name == b"data":
            self._keep(value.removeprefix(b" "))
        return None

    def _keep(self, data: bytes) -> None:
        self._data.append(data)
        self._data_bytes += len(data) + 1

    def _event(self) -> bytes | None:
        self._is_bare = False
        if not self._data:
            return None
        data = b"\n".join(self._data)
        self._data, self._data_bytes = [], 0
        return data
