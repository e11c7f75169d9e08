"""The backend that stores files in a folder of this machine."""

import contextlib
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from storage.backend import Backend, Pieces


class Local(Backend):
    failures = (OSError,)

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()

    def save(self, name: str, data: bytes) -> None:
        # If this process dies, `delete` finds the remains by this name.
        draft = self._draft(name)
        with self._translated_failures(), self._replacing(draft, self._path(name)):
            draft.write_bytes(data)

    def save_file(self, name: str, path: Path, media_type: str) -> None:
        draft = self._draft(name)
        with (
            path.open("rb") as source,
            self._translated_failures(),
            self._replacing(draft, self._path(name)),
            draft.open("wb") as copy,
        ):
            shutil.copyfileobj(source, copy)

    def load(self, name: str) -> bytes | None:
        with self._translated_failures():
            file = self._open(name)
            if file is None:
                return None
            with file:
                return file.read()

    def pieces(self, name: str) -> tuple[int, Pieces] | None:
        with self._translated_failures():
            file = self._open(name)
            if file is None:
                return None
            return os.fstat(file.fileno()).st_size, Pieces(file, self._translated_failures)

    def read(self, name: str, start: int, length: int) -> bytes | None:
        with self._translated_failures():
            file = self._open(name)
            if file is None:
                return None
            with file:
                file.seek(start)
                return file.read(length)

    def delete(self, name: str) -> None:
        with self._translated_failures():
            for path in (self._path(name), self._draft(name)):
                path.unlink(missing_ok=True)

    def url(self, name: str) -> None:
        return None

    def find(self, name: str) -> Path | None:
        """Return the path of the regular file `name`, or None."""
        try:
            path = self._path(name)
            # `_path` resolves links; none of our files is one.
            is_file = path == self.folder / name and stat.S_ISREG(path.lstat().st_mode)
        except (OSError, RuntimeError, ValueError):  # RuntimeError: a link that leads to itself.
            return None
        return path if is_file else None

    def _reason(self, cause: BaseException | None) -> str:
        reason = getattr(cause, "strerror", None) or "it does not answer"
        return f"The folder for files under LIKEDO_VAR cannot be used: {reason}."

    def _path(self, name: str) -> Path:
        path = (self.folder / name).resolve()
        if not path.is_relative_to(self.folder):
            raise ValueError(f"{name!r} leads out of the storage")
        return path

    def _draft(self, name: str) -> Path:
        return self._path(f"{name}.part")

    def _open(self, name: str) -> BinaryIO | None:
        try:
            return self._path(name).open("rb")
        except FileNotFoundError:
            return None

    @contextlib.contextmanager
    def _replacing(self, draft: Path, path: Path) -> Iterator[None]:
        """Move the `draft` that a block writes to `path` when it is whole, or leave nothing."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield
            os.replace(draft, path)
        except BaseException:
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)
            raise
