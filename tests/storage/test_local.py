"""Files in a folder."""

import os
from pathlib import Path

import pytest

from models.errors import Unavailable
from storage.local import Local


@pytest.fixture
def local(tmp_path: Path) -> Local:
    return Local(tmp_path / "files")


@pytest.fixture
def blocked(local: Local) -> Local:
    """A storage whose folder cannot be made, not even by root."""
    local.folder.write_bytes(b"A file is in its place.")
    return local


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "source.png"
    path.write_bytes(b"an image")
    return path


def test_this_service_serves_the_files_itself(local: Local) -> None:
    assert local.url("media/x.png") is None


def test_a_folder_that_takes_no_files_is_told_to_operators_and_not_to_callers(
    blocked: Local, image: Path
) -> None:
    with pytest.raises(Unavailable) as caught:
        blocked.save_file("media/x.png", image, "image/png")

    assert str(blocked.folder) not in caught.value.message
    assert isinstance(caught.value.__cause__, OSError)
    assert blocked.problem() in (
        "The folder for files under LIKEDO_VAR cannot be used: Not a directory.",
        "The folder for files under LIKEDO_VAR cannot be used: File exists.",
    )


def test_what_cannot_be_kept_whole_leaves_nothing(
    local: Local, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (local.folder / "media" / "x.png").mkdir(parents=True)  # No file can take its place.

    with pytest.raises(Unavailable):
        local.save_file("media/x.png", image, "image/png")
    with pytest.raises(Unavailable):
        local.save("media/x.png", b"data")

    assert os.listdir(local.folder / "media") == ["x.png"]


def test_deleting_takes_what_a_dead_process_left_half_done(local: Local) -> None:
    local.save("media/x.png.part", b"half of it")

    local.delete("media/x.png")

    assert os.listdir(local.folder / "media") == []


@pytest.mark.parametrize("name", ["../outside", "media/../../outside", "/etc/hostname"])
def test_no_name_leads_out_of_the_folder(local: Local, name: str) -> None:
    (local.folder.parent / "outside").write_bytes(b"a secret")

    assert local.find(name) is None
    with pytest.raises(ValueError, match="leads out"):
        local.load(name)


def test_a_file_is_found_by_its_name_and_nothing_else_is(local: Local, image: Path) -> None:
    local.save_file("media/x.png", image, "image/png")
    local.save("bodies/job_1", b"somebody's body")
    (local.folder / "media" / "folder.png").mkdir()
    (local.folder / "media" / "out.png").symlink_to(image)
    (local.folder / "media" / "within.png").symlink_to(local.folder / "bodies" / "job_1")
    (local.folder / "media" / "loop.png").symlink_to("loop.png")

    assert local.find("media/x.png") == local.folder / "media" / "x.png"
    for name in ("y.png", "folder.png", "out.png", "within.png", "loop.png", "nul\0.png"):
        assert local.find(f"media/{name}") is None, name
