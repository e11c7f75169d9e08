"""The Valkey server of `likedo up`: nobody else on the machine gets in."""

from pathlib import Path

import pytest
import redis

from cli.local import valkey as local_valkey
from config.settings import settings
from tests.stack import Process, clean_environment, wait_until


def test_without_any_socket_its_redis_has_a_password_that_only_its_user_can_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "var_dir", tmp_path / "var")
    monkeypatch.setattr(local_valkey, "_socket_folders", lambda: [])

    url = local_valkey.choose_url()
    command = local_valkey.command(url)
    process = Process("valkey", command, clean_environment(), tmp_path)
    wait_until(lambda: local_valkey.answers(url), "Valkey answers", process)
    address = redis.connection.parse_url(url)
    with redis.Redis(port=address["port"]) as stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()
    process.kill()

    assert len(address["password"]) == 64 and address["password"] not in " ".join(command)
    assert (tmp_path / "var" / "valkey" / "valkey.conf").stat().st_mode & 0o777 == 0o600
