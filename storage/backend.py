"""The interface of every storage backend."""

import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import ClassVar, Protocol

from models.errors import Unavailable

#: The size in which content is read. A multiple of 3, so that each piece is base64 without padding.
PIECE_BYTES = 48 * 1024
#: A successful check is trusted for this long.
READY_SECONDS = 30


class Backend(ABC):
    """Named files. A name is a path of letters, digits, `_`, `-`, `.` and `/`.

    Every method but `problem` raises `models.errors.Unavailable` if the storage does not answer.
    Its message does not tell callers the reason; its cause and `problem` do, for operators.
    """

    #: The exceptions that mean that the storage does not answer.
    failures: ClassVar[tuple[type[Exception], ...]]

    #: When it last accepted a file, by the monotonic clock.
    _accepted_at: float | None = None

    @abstractmethod
    def save(self, name: str, data: bytes) -> None:
        """Store `data` under `name`, whole or not at all."""

    @abstractmethod
    def save_file(self, name: str, path: Path, media_type: str) -> None:
        """Store a copy of the file at `path` under `name`, whole or not at all.

        A name has one writer at a time, and its content never changes.
        """

    @abstractmethod
    def load(self, name: str) -> bytes | None:
        """Return the content of `name`, or None."""

    @abstractmethod
    def pieces(self, name: str) -> "tuple[int, Pieces] | None":
        """Return the size in bytes and the content of `name`, or None.

        A caller that does not read all of the pieces must `close` them.
        """

    @abstractmethod
    def read(self, name: str, start: int, length: int) -> bytes | None:
        """Return `length` bytes, at least one, of the content of `name`, from byte `start` on.

        Returns fewer if the content ends sooner, and None if there is none.
        """

    @abstractmethod
    def delete(self, name: str) -> None:
        """Delete `name`, if it exists."""

    @abstractmethod
    def url(self, name: str) -> str | None:
        """Return a link to `name`; None if only this service serves it."""

    @abstractmethod
    def _reason(self, cause: BaseException | None) -> str:
        """Return what is wrong, for operators, without any value of the environment."""

    def check(self) -> None:
        """Raise unless a file can be stored, read and deleted just now."""
        probe = f"probe/{uuid.uuid4().hex}"
        self.save(probe, b"probe")
        try:
            self.load(probe)
        finally:
            self.delete(probe)
        self._accepted_at = time.monotonic()

    def ready(self) -> None:
        """Check, unless a check succeeded a moment ago and nothing has failed since."""
        if self._accepted_at is None or time.monotonic() - self._accepted_at > READY_SECONDS:
            self.check()

    def problem(self) -> str | None:
        """Return a sentence for operators on why files cannot be stored; None if they can."""
        try:
            self.check()
        except Unavailable as error:
            return self._reason(error.__cause__)
        return None

    @contextmanager
    def _translated_failures(self) -> Iterator[None]:
        """Raise `Unavailable` in place of the backend's own failures."""
        try:
            yield
        except self.failures as error:
            self._accepted_at = None
            raise Unavailable("The storage does not answer just now. Try again.") from error


class Readable(Protocol):
    """An open file."""

    def read(self, size: int, /) -> bytes: ...
    def close(self) -> None: ...


class Pieces(Iterator[bytes]):
    """The content of an open file, in pieces of `PIECE_BYTES`; the last may be shorter.

    The file is closed at its end, on a failure, or by `close`.
    """

    def __init__(
        self, file: Readable, translated_failures: Callable[[], AbstractContextManager[None]]
    ) -> None:
        """`translated_failures`: the context manager under which the file is read."""
        self.file = file
        self.translated_failures = translated_failures
        self.is_closed = False

    def __next__(self) -> bytes:
        if self.is_closed:
            raise StopIteration
        try:
            with self.translated_failures():
                piece = self._read()
        except BaseException:
            self.close()
            raise
        if not piece:
            self.close()
            raise StopIteration
        return piece

    def _read(self) -> bytes:
        """Read one piece, full-sized unless the file ends; a network may deliver it in parts."""
        piece = self.file.read(PIECE_BYTES)
        while piece and len(piece) < PIECE_BYTES:
            more = self.file.read(PIECE_BYTES - len(piece))
            if not more:
                break
            piece += more
        return piece

    def close(self) -> None:
        """Close the file."""
        self.is_closed = True
        self.file.close()
