"""Workers' folders: each has its own, and what killed ones left is removed when it is old."""

import os
import tempfile
import time
from pathlib import Path

import pytest

from jobs.worker import scratch
from jobs.worker.in_flight import this_worker


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put an empty folder in the place of the machine's folder for temporary files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(this_worker, "lease", "here-1-abc")
    return tmp_path


def make_old(folder: Path) -> None:
    before = time.time() - 2 * scratch.STALE_SECONDS
    os.utime(folder, (before, before))


def test_a_worker_takes_its_folder_with_it(machine: Path) -> None:
    Path(scratch.folder(), "image").write_bytes(b"1")

    scratch.remove()

    assert list(machine.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "old", "goes"),
    [
        ("likedo-worker-dead", True, True),
        ("likedo-worker-dead", False, False),
        ("likedo-worker-live", True, False),
        ("likedo-test", True, False),
    ],
)
def test_what_a_dead_worker_left_goes_when_it_is_old(
    machine: Path, name: str, old: bool, goes: bool
) -> None:
    left = machine / name
    left.mkdir()
    if old:
        make_old(left)

    scratch.remove_stale({"live"})

    assert left.exists() is not goes


def test_a_folder_that_is_in_use_is_never_old(machine: Path) -> None:
    make_old(scratch.folder())

    scratch.touch()
    scratch.remove_stale(())

    assert scratch.folder().stat().st_mtime > time.time() - scratch.STALE_SECONDS
