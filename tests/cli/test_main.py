import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import text

from cli.main import COMMANDS, main
from cli.terminal import explain
from config.settings import settings
from database import engine
from tests.cli.conftest import Likedo
from tests.stack import ROOT, clean_environment


def run(folder: Path, *arguments: str, **env: str) -> "subprocess.CompletedProcess[str]":
    """Run `likedo` as a process of its own in `folder`."""
    return subprocess.run(
        [sys.executable, "-m", "cli", *arguments],
        cwd=folder,
        env=clean_environment() | {"PYTHONPATH": str(ROOT)} | env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_command_has_its_sentence_in_the_help() -> None:
    done = CliRunner().invoke(main, ["--help"])

    assert done.exit_code == 0
    for name, sentence in COMMANDS.items():
        assert f"{name} " in done.stdout
        assert sentence in done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str) -> None:
    done = CliRunner().invoke(main, [name, "--help"])

    assert done.exit_code == 0
    assert "Usage:" in done.stdout


def test_the_help_loads_nothing_that_takes_time(tmp_path: Path) -> None:
    code = """if True:
        import sys
        from click.testing import CliRunner
        from cli.main import main
        assert CliRunner().invoke(main, ["--help"]).exit_code == 0
        print({"sqlalchemy", "redis", "pydantic", "rich", "gevent"} & set(sys.modules))
    """

    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=clean_environment() | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stdout == "set()\n", done.stderr


def test_a_database_without_tables_is_told_how_to_get_them(bare_likedo: Likedo) -> None:
    assert "run `likedo db upgrade`" in bare_likedo.refuses("accounts", "list")
    assert "run `likedo db upgrade`" in bare_likedo.refuses("workers", "--json")


def test_a_database_is_upgraded_as_often_as_one_likes(bare_likedo: Likedo) -> None:
    bare_likedo("db", "upgrade")
    bare_likedo("db", "upgrade")

    assert bare_likedo("accounts", "list", "--json") == []


def test_a_database_of_another_version_is_told_apart(
    likedo: Likedo, monkeypatch: pytest.MonkeyPatch
) -> None:
    with engine.engine().begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'from the future'"))

    assert "made by another version" in likedo.refuses("db", "upgrade")


def test_a_file_that_is_no_database_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("This is a text and no database. " * 100)

    done = run(tmp_path, "accounts", "list", DATABASE_URL="sqlite:///text.db")

    assert (done.returncode, done.stdout) == (1, "")
    assert "text.db cannot be used (file is not a database)" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_database_that_does_not_answer_is_one_sentence_without_its_password(
    tmp_path: Path,
) -> None:
    url = "postgresql://likedo:secret@127.0.0.1:1/likedo"

    for arguments in (("accounts", "list"), ("db", "upgrade")):
        done = run(tmp_path, *arguments, DATABASE_URL=url)

        assert (done.returncode, done.stdout) == (1, "")
        assert "check DATABASE_URL" in done.stderr
        assert "secret" not in done.stderr
        assert "Traceback" not in done.stderr


def test_an_environment_that_cannot_be_used_is_told_by_its_variable(tmp_path: Path) -> None:
    done = run(tmp_path, "accounts", "list", PORT="a lot")

    assert (done.returncode, done.stdout) == (1, "")
    assert "PORT: " in done.stderr
    assert "Traceback" not in done.stderr


def test_the_folders_env_file_is_read(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("DATABASE_URL=sqlite:///from-dot-env.db\n")

    assert run(tmp_path, "db", "upgrade").returncode == 0

    assert (tmp_path / "from-dot-env.db").exists()
    assert not (tmp_path / "var").exists()


def test_a_bug_is_not_hidden(likedo: Likedo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("access.listings.accounts", lambda: 1 / 0)

    done = CliRunner().invoke(main, ["accounts", "list"])

    assert isinstance(done.exception, ZeroDivisionError)


def test_passwords_are_left_out_of_what_is_said_of_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "redis_url", "rediss://user:secret@host:6379/0")

    assert explain.redis_address() == "rediss://host:6379/0"
