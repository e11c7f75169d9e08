"""Files in a folder of this machine."""

import contextlib
import os
import uuid
from pathlib import Path

from models import errors
from storage.backend import Backend


class Local(Backend):
    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()

    def save(self, name: str, data: bytes) -> None:
        path = self._path(name)
        draft = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            draft.write_bytes(data)
            os.replace(draft, path)
        except OSError as error:
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)
            raise errors.Unavailable("The storage takes no files just now. Try again.") from error

    def load(self, name: str) -> bytes | None:
        try:
            return self._path(name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise errors.Unavailable("The storage does not answer just now. Try again.") from error

    def delete(self, name: str) -> None:
        try:
            self._path(name).unlink(missing_ok=True)
        except OSError as error:
            raise errors.Unavailable("The storage does not answer just now. Try again.") from error

    def check(self) -> None:
        probe = f"probe/{uuid.uuid4().hex}"
        self.save(probe, b"")
        self.delete(probe)

    def _path(self, name: str) -> Path:
        path = (self.folder / name).resolve()
        if not path.is_relative_to(self.folder):
            raise ValueError(f"{name!r} leads out of the storage")
        return path
