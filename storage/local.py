"""Files in a folder of this machine."""

import contextlib
import os
import shutil
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from storage.backend import Backend, Pieces


class Local(Backend):
    failures = (OSError,)

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()

    def save(self, name: str, data: bytes) -> None:
        draft = self._path(f"{name}.{uuid.uuid4().hex}.part")
        with self._asking(), self._becoming(draft, self._path(name)):
            draft.write_bytes(data)

    def save_file(self, name: str, path: Path, media_type: str) -> None:
        # What is left of it where this process dies has a name by which `delete` finds it.
        draft = self._draft(name)
        with (
            path.open("rb") as source,
            self._asking(),
            self._becoming(draft, self._path(name)),
            draft.open("wb") as copy,
        ):
            shutil.copyfileobj(source, copy)

    def load(self, name: str) -> bytes | None:
        with self._asking():
            file = self._open(name)
            if file is None:
                return None
            with file:
                return file.read()

    def pieces(self, name: str) -> tuple[int, Pieces] | None:
        with self._asking():
            file = self._open(name)
            if file is None:
                return None
            return os.fstat(file.fileno()).st_size, Pieces(file, self._asking)

    def read(self, name: str, start: int, length: int) -> bytes | None:
        with self._asking():
            file = self._open(name)
            if file is None:
                return None
            with file:
                file.seek(start)
                return file.read(length)

    def delete(self, name: str) -> None:
        with self._asking():
            for path in (self._path(name), self._draft(name)):
                path.unlink(missing_ok=True)

    def url(self, name: str) -> None:
        return None

    def find(self, name: str) -> Path | None:
        """Return where the file `name` is; None where there is none, or something else is."""
        try:
            path = self._path(name)
            # Of a link, where it leads is found; none of ours is one.
            found = path == self.folder / name and stat.S_ISREG(path.lstat().st_mode)
        except (OSError, RuntimeError, ValueError):  # The second is a link that leads to itself.
            return None
        return path if found else None

    def _reason(self, cause: BaseException | None) -> str:
        said = getattr(cause, "strerror", None) or "it does not answer"
        return f"The folder for files under LIKEDO_VAR cannot be used: {said}."

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
    def _becoming(self, draft: Path, path: Path) -> Iterator[None]:
        """Put what a block writes as `draft` in its place, whole, or leave nothing."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield
            os.replace(draft, path)
        except BaseException:
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)
            raise
