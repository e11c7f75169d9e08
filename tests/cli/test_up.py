import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from cli.local.account import CREDITS
from config import startup
from config.settings import settings
from tests.servers.ports import free_port
from tests.stack import ROOT, Process, clean_environment, fetch, wait_until

has_proc = pytest.mark.skipif(
    not Path("/proc/self/stat").exists(), reason="The children are found by /proc."
)


class Up:
    """`likedo up` as a process, in a folder of its own."""

    def __init__(self, folder: Path, **env: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.process = start_up(folder, self.port, **env)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def said(self, part: str) -> str:
        """Wait until it has said `part`, and return all it has said."""
        wait_until(lambda: part in self.process.said(), f"it says {part!r}", self.process)
        return self.process.said()

    def ready(self) -> "Up":
        self.said("ctrl-c stops everything.")
        return self

    def printed(self, pattern: str) -> str:
        found = re.search(pattern, self.process.said(), re.MULTILINE)
        assert found, self.process.said()
        return found[1]

    @property
    def key(self) -> str:
        return self.printed(r"^ +Key +(lk-\S+)$")

    @property
    def redis_url(self) -> str:
        return str(json.loads((self.folder / "var" / "up.lock").read_text())["redis_url"])

    def curl(self) -> dict[str, Any]:
        """Paste the printed line into a shell; do what it says where there is no curl."""
        line = self.printed(r"^(curl .+)$")
        if shutil.which("curl"):
            done = subprocess.run(["sh", "-c", line], capture_output=True, check=True)
            return dict(json.loads(done.stdout))
        _, url, *words = shlex.split(re.sub(r"\$\(cat .*?\)", self.key, line))
        headers = dict(word.split(": ", 1) for word in words if ": " in word and word[0] != "{")
        return dict(json.loads(fetch(url, words[-1].encode(), headers=headers)[2]))

    def likedo(self, *arguments: str) -> Any:
        done = likedo(self.folder, *arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


def start_up(folder: Path, port: int, **env: str) -> Process:
    command = [sys.executable, "-m", "cli", "up", "--port", str(port)]
    return Process("up", command, environment(**env), folder)


def environment(**env: str) -> dict[str, str]:
    return clean_environment() | {"PYTHONPATH": str(ROOT), "WEB_CONCURRENCY": "1"} | env


def likedo(folder: Path, *arguments: str, **env: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "cli", *arguments],
        cwd=folder,
        env=environment(**env),
        capture_output=True,
        text=True,
        check=False,
    )


def descendants(pid: int) -> set[int]:
    """Return the processes that `pid` started, and those that they started."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # It ended while we looked.
            continue
        parents[int(stat.parent.name)] = int(fields[1])
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture(scope="module")
def shared_up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    up = Up(tmp_path_factory.mktemp("up"))
    yield up
    up.process.stop()


@pytest.fixture
def up(shared_up: Up) -> Up:
    return shared_up.ready()


def test_the_printed_curl_line_gets_an_answer(up: Up) -> None:
    answer = up.curl()

    assert answer["model"] == "gpt-4"
    assert answer["choices"][0]["message"]["content"].startswith("[sandbox]")
    assert answer["credits_consumed"] == 1


def test_without_a_provider_key_it_says_who_makes_the_answers_up(up: Up) -> None:
    said = up.process.said()

    assert "No provider key was found, so all answers are made up by the built-in sandbox" in said
    assert "OPENAI_API_KEY=" in said
    assert str(up.folder / ".env") in said


def test_the_printed_addresses_answer(up: Up) -> None:
    base_url = up.printed(r"base_url (\S+)")

    assert base_url == f"{up.address}/v1"
    assert fetch(f"{base_url}/models", key=up.key)[0] == 200


def test_it_prints_its_key_once_and_listens_for_this_machine_alone(up: Up) -> None:
    assert up.process.said().count(up.key) == 1
    assert "other machines can connect" not in up.process.said()
    if sys.platform == "linux":  # There all of 127.0.0.0/8 is this machine.
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", up.port))


def test_the_log_names_each_process(up: Up) -> None:
    names = {line.partition(" | ")[0] for line in up.process.said().splitlines() if " | " in line}

    assert names >= {"valkey", "worker"}


def test_its_key_is_nobody_elses_to_read(up: Up) -> None:
    file = up.folder / "var" / "local.key"

    assert file.read_text().strip() == up.key
    assert file.stat().st_mode & 0o777 == 0o600


def test_the_queue_is_kept_on_disk_and_never_evicts(up: Up) -> None:
    with redis.Redis.from_url(up.redis_url, decode_responses=True) as client:
        config = client.config_get("append*", "save", "maxmemory-policy")

    assert config["appendonly"] == "yes"
    assert config["appendfsync"] == "everysec"
    assert (config["save"], config["maxmemory-policy"]) == ("", "noeviction")


def test_a_second_copy_is_told_where_the_first_one_is(up: Up) -> None:
    done = likedo(up.folder, "up", "--port", str(free_port()))

    assert (done.returncode, done.stdout) == (1, "")
    assert f"already running here (pid {up.process.pid}, {up.address})" in done.stderr


def test_a_key_revoked_by_another_command_is_refused_at_once(up: Up) -> None:
    made = up.likedo("keys", "create", "--account", "local")
    assert fetch(f"{up.address}/v1/credits", key=made["key"])[0] == 200

    assert likedo(up.folder, "keys", "revoke", str(made["id"])).returncode == 0

    wait_until(
        lambda: fetch(f"{up.address}/v1/credits", key=made["key"])[0] == 401, "it is refused"
    )


def test_a_worker_that_is_killed_is_started_again(up: Up) -> None:
    workers = {worker["pid"] for worker in up.likedo("workers")}

    for pid in workers:
        os.kill(pid, signal.SIGKILL)

    up.said("worker ended unexpectedly (signal SIGKILL); it is started again")
    wait_until(
        lambda: {worker["pid"] for worker in up.likedo("workers")} - workers, "another worker works"
    )
    assert up.curl()["model"] == "gpt-4"


def test_a_port_in_use_is_named_before_anything_is_started(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = likedo(tmp_path, "up", "--port", str(port))

    assert (done.returncode, done.stdout) == (1, "")
    assert f"Port {port} is in use by another program" in done.stderr
    assert "likedo up --port" in done.stderr
    assert not (tmp_path / "var" / "likedo.db").exists()


def test_a_redis_that_does_not_answer_and_an_address_that_is_none_are_said(tmp_path: Path) -> None:
    url = f"redis://:secret@127.0.0.1:{free_port()}/0"

    done = likedo(tmp_path, "up", "--port", str(free_port()), REDIS_URL=url)
    elsewhere = likedo(tmp_path, "up", "--port", str(free_port()), HOST="192.0.2.1")

    assert (done.returncode, done.stdout) == (1, "")
    assert "does not answer" in done.stderr
    assert "secret" not in done.stderr
    assert (elsewhere.returncode, elsewhere.stdout) == (1, "")
    assert "HOST=192.0.2.1 is no address of this machine" in elsewhere.stderr


def test_a_platform_of_many_machines_is_told_what_to_set(tmp_path: Path) -> None:
    done = likedo(tmp_path, "up", DYNO="web.1")

    assert (done.returncode, done.stdout) == (1, "")
    assert "set DATABASE_URL=postgresql://" in done.stderr
    assert not (tmp_path / "var").exists()


def test_the_web_process_and_the_worker_are_told_so_too(monkeypatch: pytest.MonkeyPatch) -> None:
    startup.check()
    monkeypatch.setenv("DYNO", "web.1")
    monkeypatch.setattr(settings, "database_url", "")

    with pytest.raises(SystemExit, match="likedo: Heroku .* set DATABASE_URL"):
        startup.check()


@has_proc
def test_ctrl_c_stops_everything_and_a_second_start_finds_its_data_again(tmp_path: Path) -> None:
    first = Up(tmp_path).ready()
    key, children = first.key, descendants(first.process.pid)
    first.curl()

    first.process.child.send_signal(signal.SIGINT)
    first.process.child.send_signal(signal.SIGINT)

    assert first.process.wait() == 0
    assert len(children) >= 4  # Valkey, the worker, gunicorn and its web process.
    assert not [pid for pid in children if lives(pid)]

    second = Up(tmp_path).ready()

    assert second.key == key
    assert [account["name"] for account in second.likedo("accounts", "list")] == ["local"]
    assert second.likedo("credits", "show", "--account", "local")["balance"] == CREDITS - 1
    second.process.terminate()
    assert second.process.wait() == 0


@pytest.mark.skipif(sys.platform != "linux", reason="Only Linux tells a child of its parent's end.")
def test_what_it_started_ends_when_it_is_killed_and_it_can_be_started_again(tmp_path: Path) -> None:
    first = Up(tmp_path).ready()
    children = descendants(first.process.pid)

    os.kill(first.process.pid, signal.SIGKILL)
    first.process.child.wait()

    wait_until(lambda: not any(map(lives, children)), "all of them have ended")
    second = Up(tmp_path).ready()
    assert second.curl()["credits_consumed"] == 1
    second.process.stop()


def test_it_works_in_a_folder_that_cannot_have_sockets_and_on_all_addresses(tmp_path: Path) -> None:
    folder = tmp_path / f"a folder with a {'very ' * 20}long name"
    folder.mkdir()
    # A program of the folder's own, which is not to be taken for ours.
    (folder / "app.py").write_text("raise SystemExit('This is another app.py.')")

    up = Up(folder, HOST="0.0.0.0").ready()

    assert up.curl()["model"] == "gpt-4"
    assert "HOST=0.0.0.0: other machines can connect" in up.process.said()
    if sys.platform == "linux":
        assert fetch(f"http://127.0.0.2:{up.port}/healthz")[0] == 200
    redis_socket = Path(up.redis_url.removeprefix("unix://"))
    assert redis_socket.is_socket() and not redis_socket.is_relative_to(folder)
    assert redis_socket.parent.stat().st_mode & 0o777 == 0o700
    up.process.stop()
