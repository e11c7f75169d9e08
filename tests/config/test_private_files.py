"""What is kept on the disk is for nobody else on the machine to read."""

import os
import sys
from pathlib import Path

import pytest

from tests.config.test_start import STARTS
from tests.servers.ports import free_port
from tests.stack import ROOT, Process, clean_environment, fetch, wait_until

#: Starts a command as a careless shell would: what it creates is open to everybody.
CARELESS = ["/bin/sh", "-c", 'umask 0; exec "$0" "$@"', sys.executable]


def open_to_others(folder: Path) -> list[str]:
    return [str(path) for path in [folder, *folder.rglob("*")] if path.stat().st_mode & 0o077]


@pytest.fixture
def open_folder(tmp_path: Path) -> Path:
    """A state folder as an earlier version left it."""
    old = tmp_path / "var" / "files" / "media" / "old.png"
    before = os.umask(0)
    old.parent.mkdir(parents=True)
    old.write_bytes(b"")
    (tmp_path / "var" / "likedo.db-wal").write_bytes(b"")
    os.umask(before)
    return tmp_path


@pytest.mark.parametrize("name", ["web", "worker"])
def test_a_process_writes_private_files_and_mends_those_it_finds(
    open_folder: Path, name: str
) -> None:
    port, var = free_port(), open_folder / "var"
    env = {"PYTHONPATH": str(ROOT), "REDIS_URL": "redis://127.0.0.1:1/0", "PORT": str(port)}

    process = Process(name, [*CARELESS, *STARTS[name]], clean_environment() | env, open_folder)
    if name == "web":
        wait_until(lambda: fetch(f"http://127.0.0.1:{port}/readyz")[0] == 503, "it is up", process)
    wait_until((var / "likedo.db").exists, "it has opened its database", process)
    process.kill()

    assert open_to_others(var) == []
    assert (var / "files" / "media" / "old.png").exists()


def test_a_command_writes_private_files(tmp_path: Path) -> None:
    command = [*CARELESS, "-m", "cli", "db", "upgrade"]
    env = clean_environment() | {"PYTHONPATH": str(ROOT)}

    assert Process("command", command, env, tmp_path).wait() == 0

    assert (tmp_path / "var" / "likedo.db").exists()
    assert open_to_others(tmp_path / "var") == []
