"""Writing files to a worker's scratch folder."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from models.errors import Unavailable


class File:
    """A new file with a random name. Its methods raise `Unavailable` if the disk fails."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / secrets.token_hex(16)
        with _as_unavailable():
            self._file = self.path.open("xb")

    def write(self, data: bytes) -> None:
        with _as_unavailable():
            self._file.write(data)

    def close(self) -> None:
        with _as_unavailable():
            self._file.close()

    def drop(self) -> None:
        """Close and delete the file."""
        with suppress(OSError):  # Bytes that were not flushed yet do not matter any more.
            self._file.close()
        self.path.unlink(missing_ok=True)


@contextmanager
def new_file(folder: Path) -> Iterator[File]:
    """Give a new file in `folder` and close it; delete it if the block raises."""
    file = File(folder)
    try:
        yield file
        file.close()
    except BaseException:
        file.drop()
        raise


@contextmanager
def _as_unavailable() -> Iterator[None]:
    """Turn errors of the disk into `Unavailable`; a connection's errors are `OSError`s, too."""
    try:
        yield
    except OSError as error:
        raise Unavailable("The image could not be written to a file here.") from error
