"""The command line as people use it: on a database of a test's own, in this process."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fakeredis
import pytest
from click.testing import CliRunner

import migrations
from access import keys
from cli.main import main
from config.settings import settings
from database import engine as database_engine
from jobs.lifecycle import bodies, cancel, finish, queue


class Likedo:
    """Runs commands, each of which has to end as the test expects."""

    def __call__(self, *arguments: str) -> Any:
        """Return what the command prints: as JSON where it was asked for that, else the text."""
        done = CliRunner().invoke(main, arguments)
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout) if "--json" in arguments else done.stdout

    def refuses(self, *arguments: str, code: int = 1) -> str:
        """Return the sentence that tells why the command will not do it."""
        done = CliRunner().invoke(main, arguments)
        assert done.exit_code == code, (done.output, done.exception)
        assert done.stdout == ""
        assert "Traceback" not in done.stderr
        return done.stderr


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def bare_likedo(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Likedo]:
    """The command line in front of a database without tables."""
    url = ""
    if request.param == "postgresql":
        made = request.getfixturevalue("postgres_server").database()
        url = made.replace("postgresql://", "postgresql+psycopg://")
    monkeypatch.setattr(settings, "var_dir", tmp_path)
    monkeypatch.setattr(settings, "database_url", url)
    engine = database_engine.make_engine(settings.sql_url)
    monkeypatch.setattr(database_engine, "engine", lambda: engine)
    yield Likedo()
    engine.dispose()


@pytest.fixture
def redis(monkeypatch: pytest.MonkeyPatch) -> Iterator[fakeredis.FakeRedis]:
    with fakeredis.FakeRedis() as fake:
        for module in (bodies, cancel, finish, keys, queue):
            monkeypatch.setattr(module, "connection", lambda: fake)
        queue.queue.cache_clear()
        yield fake
        queue.queue.cache_clear()


class Hearing:
    """An ear on one channel of Redis."""

    def __init__(self, redis: fakeredis.FakeRedis, channel: str) -> None:
        self.pubsub = redis.pubsub()  # type: ignore[no-untyped-call]
        self.pubsub.subscribe(channel)
        self.pubsub.get_message(timeout=5)

    def hear(self) -> bytes:
        """Return what is said next."""
        return bytes(self.pubsub.get_message(timeout=5)["data"])


Listen = Callable[[str], Hearing]


@pytest.fixture
def hearing(redis: fakeredis.FakeRedis) -> Iterator[Listen]:
    """Give an ear on a channel."""
    made: list[Hearing] = []

    def listen(channel: str) -> Hearing:
        made.append(Hearing(redis, channel))
        return made[-1]

    yield listen
    for one in made:
        one.pubsub.close()


@pytest.fixture
def likedo(bare_likedo: Likedo, redis: fakeredis.FakeRedis) -> Likedo:
    """The command line in front of an empty database, and of a Redis."""
    migrations.upgrade()
    return bare_likedo
