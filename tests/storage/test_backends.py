"""What holds for every storage."""

import base64
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import storage
from models.errors import Unavailable
from storage.backend import PIECE_BYTES, Backend, Pieces

NAME = "media/an_image-1.png"


@pytest.fixture
def file(tmp_path: Path) -> Callable[[bytes], Path]:
    """Make a file with some content."""

    def make(content: bytes) -> Path:
        path = tmp_path / "source"
        path.write_bytes(content)
        return path

    return make


def content(size: int) -> bytes:
    return bytes(range(256)) * (size // 256) + bytes(range(size % 256))


def test_what_is_saved_is_loaded_until_it_is_deleted(backend: Backend) -> None:
    backend.save("bodies/job_1", b"a body")
    assert backend.load("bodies/job_1") == b"a body"

    backend.save("bodies/job_1", b"another")
    assert backend.load("bodies/job_1") == b"another"

    backend.delete("bodies/job_1")
    assert backend.load("bodies/job_1") is None


def test_what_is_not_there_is_deleted_in_peace(backend: Backend) -> None:
    backend.delete("media/nothing.png")


@pytest.mark.parametrize(
    "size", [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 5 * PIECE_BYTES, 3_000_001]
)
def test_a_file_is_kept_and_read_in_pieces_that_become_one_base64(
    backend: Backend, file: Callable[[bytes], Path], size: int
) -> None:
    backend.save_file(NAME, file(content(size)), "image/png")

    found = backend.pieces(NAME)

    assert found is not None
    kept, pieces = found
    encoded = [base64.b64encode(piece) for piece in pieces]
    assert kept == size
    assert base64.b64decode(b"".join(encoded), validate=True) == content(size)
    assert max(map(len, encoded), default=0) <= PIECE_BYTES * 4 // 3
    assert backend.load(NAME) == content(size)


def test_a_file_is_copied_and_its_source_left_alone(
    backend: Backend, file: Callable[[bytes], Path]
) -> None:
    source = file(b"an image")

    backend.save_file(NAME, source, "image/png")

    assert source.read_bytes() == b"an image"
    source.write_bytes(b"something else")
    assert backend.load(NAME) == b"an image"


def test_a_file_that_replaces_another_is_the_one_that_is_read(
    backend: Backend, file: Callable[[bytes], Path]
) -> None:
    backend.save_file(NAME, file(b"the first"), "image/png")
    backend.save_file(NAME, file(b"the second"), "image/png")

    assert backend.load(NAME) == b"the second"


def test_nothing_is_read_where_nothing_is_kept(backend: Backend) -> None:
    assert backend.load(NAME) is None
    assert backend.pieces(NAME) is None
    assert backend.read(NAME, 0, 1) is None
    assert backend.read(NAME, 1000, 1000) is None


@pytest.mark.parametrize(
    ("start", "length"),
    [(0, 1), (0, 1000), (1, 255), (999, 1), (256, 744)],
)
def test_a_part_of_what_is_kept_is_read_alone(backend: Backend, start: int, length: int) -> None:
    backend.save(NAME, content(1000))

    assert backend.read(NAME, start, length) == content(1000)[start : start + length]


@pytest.mark.parametrize(
    ("start", "length", "kept"),
    [(990, 100, 10), (0, 10_000, 1000), (1000, 1, 0), (5000, 10, 0)],
)
def test_beyond_its_end_nothing_is_read(
    backend: Backend, start: int, length: int, kept: int
) -> None:
    backend.save(NAME, content(1000))

    assert backend.read(NAME, start, length) == content(1000)[start : start + kept]


def test_of_an_empty_file_nothing_is_read(backend: Backend) -> None:
    backend.save(NAME, b"")

    assert backend.read(NAME, 0, 10) == b""


def test_pieces_that_are_not_wanted_any_more_are_let_go(
    backend: Backend, file: Callable[[bytes], Path]
) -> None:
    backend.save_file(NAME, file(content(1_000_000)), "image/png")
    for taken in (0, 1):
        found = backend.pieces(NAME)
        assert found is not None
        _, pieces = found
        for _ in range(taken):
            next(pieces)

        pieces.close()
        pieces.close()

        assert list(pieces) == []
        assert is_closed(pieces)


def test_pieces_close_what_they_read_with_its_end(
    backend: Backend, file: Callable[[bytes], Path]
) -> None:
    backend.save_file(NAME, file(content(100_000)), "image/png")
    found = backend.pieces(NAME)
    assert found is not None
    _, pieces = found

    assert sum(map(len, pieces)) == 100_000

    assert is_closed(pieces)


def test_a_storage_that_takes_files_has_no_problem(backend: Backend) -> None:
    assert backend.problem() is None
    backend.check()
    backend.ready()


class Trickle:
    """A file that gives less than it is asked for, as a network does, and may break."""

    def __init__(self, content: bytes, breaks: bool = False) -> None:
        self.content = content
        self.breaks = breaks
        self.closed = False

    def read(self, size: int, /) -> bytes:
        if self.breaks and not self.content:
            raise OSError("It broke.")
        taken = min(size, 1000)
        piece, self.content = self.content[:taken], self.content[taken:]
        return piece

    def close(self) -> None:
        self.closed = True


def test_pieces_are_whole_whatever_bits_they_come_in(local: Backend) -> None:
    pieces = list(Pieces(Trickle(content(150_000)), local._translated_failures))

    assert [len(piece) for piece in pieces[:-1]] == [PIECE_BYTES] * 3
    assert b"".join(pieces) == content(150_000)


def test_a_file_that_breaks_off_is_unavailable_and_let_go(local: Backend) -> None:
    file = Trickle(content(60_000), breaks=True)
    pieces = Pieces(file, local._translated_failures)

    assert len(next(pieces)) == PIECE_BYTES
    with pytest.raises(Unavailable):
        next(pieces)

    assert file.closed
    assert list(pieces) == []


@pytest.fixture
def local(tmp_path: Path) -> Backend:
    from storage.local import Local

    return Local(tmp_path / "files")


class Clock:
    """The `time` that a test turns on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Probed(Backend):
    """A storage that counts how often it is tried, and can be told not to answer."""

    failures = (OSError,)

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.saved = 0
        self.broken = False

    def save(self, name: str, data: bytes) -> None:
        with self._translated_failures():
            self.saved += 1
            if self.broken:
                raise OSError("No.")
            self.files[name] = data

    def save_file(self, name: str, path: Path, media_type: str) -> None:
        self.save(name, path.read_bytes())

    def load(self, name: str) -> bytes | None:
        return self.files.get(name)

    def pieces(self, name: str) -> None:
        return None

    def read(self, name: str, start: int, length: int) -> bytes | None:
        raise NotImplementedError

    def delete(self, name: str) -> None:
        self.files.pop(name, None)

    def url(self, name: str) -> None:
        return None

    def _reason(self, cause: BaseException | None) -> str:
        return f"It says: {cause}"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(sys.modules[Backend.__module__], "time", clock)
    return clock


@pytest.fixture
def probed(monkeypatch: pytest.MonkeyPatch) -> Probed:
    probed = Probed()
    monkeypatch.setattr(storage, "backend", lambda: probed)
    return probed


def test_a_storage_is_asked_anew_after_half_a_minute(probed: Probed, clock: Clock) -> None:
    storage.ready()
    clock.now += 29
    storage.ready()
    assert probed.saved == 1

    clock.now += 2
    storage.ready()

    assert probed.saved == 2
    assert probed.files == {}


def test_a_failure_is_not_remembered(probed: Probed, clock: Clock) -> None:
    probed.broken = True
    for _ in range(2):
        with pytest.raises(Unavailable):
            storage.ready()
    assert probed.problem() == "It says: No."

    probed.broken = False
    storage.ready()


def test_a_failure_ends_what_is_believed_of_the_storage(probed: Probed, clock: Clock) -> None:
    storage.ready()
    probed.broken = True
    with pytest.raises(Unavailable):
        probed.save("bodies/job_1", b"")

    with pytest.raises(Unavailable):
        storage.ready()


def is_closed(pieces: Pieces) -> bool:
    """Tell whether what the pieces came from can be read no more."""
    raw = getattr(pieces.file, "_raw_stream", pieces.file)
    return bool(raw.closed)
