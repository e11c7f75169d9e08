"""Server-sent events: bytes as the network cuts them in, the data of whole events out.

The rules are those of the HTML standard, section "Parsing an event stream", save two: an event that
the end of the body completes counts, since some vendors leave out the last empty line; and so does
JSON that stands there without `data:`, which is how Gemini says in mid-stream that it has failed.
"""

from config.settings import MIB
from models.errors import ProviderFailed

#: The most that is kept of an event whose end has not come. An image in base64 takes some MiB.
MAX_EVENT_BYTES = 16 * MIB

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Parser:
    """What has come of an event stream and is not a whole event yet."""

    def __init__(self) -> None:
        self._begun = False
        #: The last byte was a carriage return, and a line feed would belong to it.
        self._after_return = False
        #: Pieces of a line that has not ended, and their bytes.
        self._line: list[bytes] = []
        self._line_bytes = 0
        #: Data lines of an event that has not ended, and their bytes.
        self._data: list[bytes] = []
        self._data_bytes = 0
        #: The event is JSON that stands there bare, of as many lines as come until an empty one.
        self._is_bare = False

    def feed(self, piece: bytes) -> list[bytes]:
        """Return the data of the events that `piece` completes; raise `ProviderFailed` where one
        is larger than `MAX_EVENT_BYTES`.
        """
        found = [data for line in self._lines(piece) if (data := self._take(line)) is not None]
        if self._line_bytes + self._data_bytes > MAX_EVENT_BYTES:
            raise ProviderFailed("The provider sent an event that is too large.")
        return found

    def end(self) -> list[bytes]:
        """Return the data of the event that the end of the body completes, if there is one."""
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
        """Return the line that `end` is the end of."""
        line = b"".join((*self._line, end))
        self._line, self._line_bytes = [], 0
        if not self._begun:
            self._begun = True
            line = line.removeprefix(_BYTE_ORDER_MARK)
        return line

    def _take(self, line: bytes) -> bytes | None:
        """Return the data of an event where `line`, being empty, ends one."""
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
