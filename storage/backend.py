"""What every storage can do."""

import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import ClassVar, Protocol

from models.errors import Unavailable

#: Of a file's content, at a time. A multiple of 3, so that each is base64 without padding.
PIECE_BYTES = 48 * 1024
#: That the storage took a file is believed for this long.
READY_SECONDS = 30


class Backend(ABC):
    """Named files. A name is a path of letters, digits, `_`, `-`, `.` and `/`.

    Every method but `problem` raises `models.errors.Unavailable` where the storage does not answer:
    for callers without a reason, which is its cause, and which `problem` tells operators.
    """

    #: What is raised where the storage does not answer.
    failures: ClassVar[tuple[type[Exception], ...]]

    #: When it last took a file, by the monotonic clock.
    _took_at: float | None = None

    @abstractmethod
    def save(self, name: str, data: bytes) -> None:
        """Keep `data` under `name`, whole or not at all."""

    @abstractmethod
    def save_file(self, name: str, path: Path, media_type: str) -> None:
        """Keep a copy of the file at `path` under `name`, whole or not at all.

        A name is saved by one at a time. What is kept is an image that will not change.
        """

    @abstractmethod
    def load(self, name: str) -> bytes | None:
        """Return what is kept under `name`; None where nothing is."""

    @abstractmethod
    def pieces(self, name: str) -> "tuple[int, Pieces] | None":
        """Return how many bytes are kept under `name`, and these; None where nothing is.

        Who does not take all of the pieces has to `close` them.
        """

    @abstractmethod
    def read(self, name: str, start: int, length: int) -> bytes | None:
        """Return `length` bytes, at least one, of what is kept under `name`, from byte `start` on.

        Fewer where it ends sooner; None where nothing is kept.
        """

    @abstractmethod
    def delete(self, name: str) -> None:
        """Forget what is kept under `name`, if anything is."""

    @abstractmethod
    def url(self, name: str) -> str | None:
        """Return a link to what is kept under `name`; None where only this service serves it."""

    @abstractmethod
    def _reason(self, cause: BaseException | None) -> str:
        """Say to operators what is wrong, without any value of the environment."""

    def check(self) -> None:
        """Raise where a file could not be kept, read and forgotten just now."""
        probe = f"probe/{uuid.uuid4().hex}"
        self.save(probe, b"probe")
        try:
            self.load(probe)
        finally:
            self.delete(probe)
        self._took_at = time.monotonic()

    def ready(self) -> None:
        """Check, unless that went well a moment ago, and nothing has failed since."""
        if self._took_at is None or time.monotonic() - self._took_at > READY_SECONDS:
            self.check()

    def problem(self) -> str | None:
        """Say to operators, in a sentence, why a file could not be kept; None where one can."""
        try:
            self.check()
        except Unavailable as error:
            return self._reason(error.__cause__)
        return None

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Say `Unavailable` for whatever the storage fails with."""
        try:
            yield
        except self.failures as error:
            self._took_at = None
            raise Unavailable("The storage does not answer just now. Try again.") from error


class Readable(Protocol):
    """An open file."""

    def read(self, size: int, /) -> bytes: ...
    def close(self) -> None: ...


class Pieces(Iterator[bytes]):
    """The content of an open file, `PIECE_BYTES` at a time, the last of them perhaps shorter.

    The file is closed with the end, with a failure, or by `close`.
    """

    def __init__(self, file: Readable, asking: Callable[[], AbstractContextManager[None]]) -> None:
        """`asking`: the block in which it is read."""
        self.file = file
        self.asking = asking
        self.is_closed = False

    def __next__(self) -> bytes:
        if self.is_closed:
            raise StopIteration
        try:
            with self.asking():
                piece = self._read()
        except BaseException:
            self.close()
            raise
        if not piece:
            self.close()
            raise StopIteration
        return piece

    def _read(self) -> bytes:
        """Read one piece, whole unless the file ends: what comes from a network comes in bits."""
        piece = self.file.read(PIECE_BYTES)
        while piece and len(piece) < PIECE_BYTES:
            more = self.file.read(PIECE_BYTES - len(piece))
            if not more:
                break
            piece += more
        return piece

    def close(self) -> None:
        """Let go of the file."""
        self.is_closed = True
        self.file.close()
