"""What every storage can do."""

from abc import ABC, abstractmethod


class Backend(ABC):
    """Named files. A name is a path of letters, digits, `_`, `-`, `.` and `/`.

    Every method raises `models.errors.Unavailable` where the storage does not answer.
    """

    @abstractmethod
    def save(self, name: str, data: bytes) -> None:
        """Keep `data` under `name`, whole or not at all."""

    @abstractmethod
    def load(self, name: str) -> bytes | None:
        """Return what is kept under `name`; None where nothing is."""

    @abstractmethod
    def delete(self, name: str) -> None:
        """Forget what is kept under `name`, if anything is."""

    @abstractmethod
    def check(self) -> None:
        """Raise where nothing could be kept just now."""
