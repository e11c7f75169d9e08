"""A part of a file, from either storage."""

import pytest

from storage.backend import Backend

CONTENT = bytes(range(256)) * 1000


@pytest.mark.parametrize("start", [0, 1, 255_000])
@pytest.mark.parametrize("length", [1, 1000])
def test_a_part_of_a_file_is_read(backend: Backend, start: int, length: int) -> None:
    backend.save("files/file-1", CONTENT)

    assert backend.read("files/file-1", start, length) == CONTENT[start : start + length]


def test_what_is_beyond_the_end_is_not_there(backend: Backend) -> None:
    backend.save("files/file-1", b"0123456789")

    assert backend.read("files/file-1", 7, 100) == b"789"
    assert backend.read("files/file-1", 10, 1) == b""
    assert backend.read("files/file-1", 1000, 1) == b""


def test_of_a_file_that_is_not_there_nothing_is_read(backend: Backend) -> None:
    assert backend.read("files/file-2", 0, 10) is None
