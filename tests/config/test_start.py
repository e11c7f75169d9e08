"""A catalogue or an environment that cannot be used stops every process, with the reason."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.config.catalog.test_source import GOOD
from tests.servers.ports import free_port
from tests.stack import ROOT, Process, clean_environment, wait_until

STARTS = {
    "web": ["-m", "gunicorn", "-c", "python:config.gunicorn", "app:create_app()"],
    "worker": [str(ROOT / "worker.py")],
    "all of it": ["-m", "cli", "up"],
    "a command": ["-m", "cli", "accounts", "list"],
}

every_start = pytest.mark.parametrize("arguments", STARTS.values(), ids=STARTS.keys())


def start(folder: Path, arguments: list[str], **env: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=clean_environment() | {"PYTHONPATH": str(ROOT), "PORT": str(free_port())} | env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@every_start
def test_a_wrong_catalogue_is_refused_with_the_line_and_the_reason(
    tmp_path: Path, arguments: list[str]
) -> None:
    (tmp_path / "mine.toml").write_text(GOOD.replace('"openai:one"]', '"opnai:one"]'))

    done = start(tmp_path, arguments, CATALOG="mine.toml")

    assert (done.returncode, done.stdout) == (1, "")
    assert 'mine.toml, line 18: upstream."opnai:one": ' in done.stderr
    assert "one of the providers deepseek, " in done.stderr
    assert "Traceback" not in done.stderr


@every_start
def test_an_address_that_is_none_is_refused_with_its_variable(
    tmp_path: Path, arguments: list[str]
) -> None:
    done = start(tmp_path, arguments, OPENAI_BASE_URL="api.openai.com")

    assert (done.returncode, done.stdout) == (1, "")
    assert "OPENAI_BASE_URL: must begin with http:// or https://" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("REDIS_URL", "redis://h:port/0", "is not a URL that can be read"),
        ("REDIS_URL", "redis://h:6379/abc", "must end with a port and the number of a database"),
        ("S3_ENDPOINT_URL", "minio:9000", "must begin with http:// or https://"),
        ("JOB_TIMEOUT_SECONDS", "inf", "input should be less than or equal to 86400"),
        ("SYNC_WAIT_SECONDS", "inf", "input should be a finite number"),
        ("MEDIA_TTL_DAYS", "1e300", "input should be less than or equal to 36500"),
        ("OPENAI_API_KEY", "sk-…", "holds a character that no key has"),
    ],
)
def test_a_value_that_would_only_fail_later_is_refused_at_the_start(
    tmp_path: Path, name: str, value: str, reason: str
) -> None:
    done = start(tmp_path, STARTS["worker"], **{name: value})

    assert (done.returncode, done.stdout) == (1, "")
    assert f"{name}: {reason}" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("env", "event"),
    [
        ({}, "redis.default_used address=redis://127.0.0.1:6379/0"),
        ({"REDIS_URL": "redis://192.0.2.1:6379/0"}, "redis.without_password host=192.0.2.1"),
    ],
)
def test_a_process_says_which_redis_it_falls_back_to_and_which_is_open(
    tmp_path: Path, env: dict[str, str], event: str
) -> None:
    given = clean_environment() | {"PYTHONPATH": str(ROOT)} | env
    process = Process("worker", [sys.executable, *STARTS["worker"]], given, tmp_path)

    wait_until(lambda: event in process.said(), f"it says {event}", process)
    process.kill()


@pytest.mark.parametrize(
    "env",
    [
        {"DATABASE_URL": "mysql://user:s3cret@host/likedo"},
        {"REDIS_URL": "http://user:s3@cret@host:6379"},
        {"REDIS_URL": "user:s3cret@host:6379"},
        {"OPENAI_API_KEY": "sk-s3cret-ä"},
    ],
)
def test_a_refusal_shows_no_password_and_no_key(tmp_path: Path, env: dict[str, str]) -> None:
    done = start(tmp_path, STARTS["worker"], **env)

    assert next(iter(env)) in done.stderr
    assert "cret" not in done.stderr


def test_an_env_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PORT=8001", encoding="utf-16")

    done = start(tmp_path, STARTS["worker"])

    assert (done.returncode, done.stderr) == (1, "likedo: .env cannot be read: save it as UTF-8.\n")


def test_the_mark_that_some_editors_begin_a_file_with_is_no_part_of_a_name(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("SANDBOX=perhaps", encoding="utf-8-sig")

    assert "SANDBOX: input should be a valid boolean" in start(tmp_path, STARTS["worker"]).stderr
