"""Files in a worker's scratch folder."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from models.errors import Unavailable


class File:
    """A new file. Raises `Unavailable` where this machine's disk does not take it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / secrets.token_hex(16)
        with _on_disk():
            self._file = self.path.open("xb")

    def write(self, data: bytes) -> None:
        with _on_disk():
            self._file.write(data)

    def close(self) -> None:
        with _on_disk():
            self._file.close()

    def drop(self) -> None:
        """Close and remove it."""
        with suppress(OSError):  # What was not written yet need not be.
            self._file.close()
        self.path.unlink(missing_ok=True)


@contextmanager
def new_file(folder: Path) -> Iterator[File]:
    """Give a new file in `folder`, which is gone again where what is within raises."""
    file = File(folder)
    try:
        yield file
        file.close()
    except BaseException:
        file.drop()
        raise


@contextmanager
def _on_disk() -> Iterator[None]:
    """Tell our own disk's errors from those of a connection, which are of the same class."""
    try:
        yield
    except OSError as error:
        raise Unavailable("The image could not be written to a file here.") from error
