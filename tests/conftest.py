"""What tests share: real servers, started once for a run.

In this process nothing reads a developer's `.env`: it works in a folder of its own.
"""

import atexit
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from config.providers import BASE_URLS, key_variable
from tests.servers import postgres
from tests.servers.postgres import Postgres
from tests.stack import Account, Stack, Valkey
from tests.upstream import Upstream

DATABASES = [
    "sqlite",
    pytest.param("postgresql", marks=pytest.mark.postgres),
    pytest.param("postgresql with a pool of one", marks=pytest.mark.postgres),
]


def pytest_configure(config: pytest.Config) -> None:
    """Leave the developer's folder and settings, before test modules import anything of ours."""
    Stack.forks = True
    if config.getoption("numprocesses", None):
        return  # Others run the tests, and find them from here.
    folder = tempfile.TemporaryDirectory(prefix="likedo-tests-")
    atexit.register(folder.cleanup)
    os.chdir(folder.name)
    for name in [name for name in os.environ if name.endswith(("_API_KEY", "_API_TOKEN", "_URL"))]:
        del os.environ[name]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Spread the tests that start processes of their own, and wait most of their time.

    So none of those that run side by side has all of them, and the machine is always busy.
    """
    waiting = [item for item in items if "fresh_stack" in _fixtures(item)]
    others = [item for item in items if "fresh_stack" not in _fixtures(item)]
    every = len(items) / max(1, len(waiting))
    for number, item in enumerate(waiting):
        others.insert(round(number * every), item)
    items[:] = others


def _fixtures(item: pytest.Item) -> list[str]:
    return list(getattr(item, "fixturenames", ()))


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    binaries = postgres.binaries()
    if binaries is None:
        pytest.skip("PostgreSQL is not installed here.")
    server = Postgres(binaries)
    yield server
    server.close()


def database_settings(name: str, request: pytest.FixtureRequest) -> dict[str, Any]:
    """Return the settings of a stack on the database that a test's parameter names."""
    if name == "sqlite":
        return {}
    url = request.getfixturevalue("postgres_server").database()
    pool = 1 if name.endswith("one") else 10
    return {"database_url": url, "database_pool_size": pool}


def provider_settings(upstream: Upstream) -> dict[str, Any]:
    """Return the settings that put every provider behind the tests' own upstream."""
    urls = {f"{name}_base_url": f"{upstream.url}/{name}" for name in BASE_URLS}
    return urls | {key_variable(name).lower(): f"sk-{name}-upstream" for name in BASE_URLS}


@pytest.fixture(scope="session")
def shared_upstream() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


@pytest.fixture(scope="session")
def fresh_upstream() -> Iterator[Upstream]:
    """The upstream of the fresh stacks: what the shared one still does is not counted here."""
    with Upstream() as upstream:
        yield upstream


@pytest.fixture(scope="session")
def own_upstream() -> Iterator[Upstream]:
    """The upstream that this process itself asks."""
    from net import connection  # It imports what is ours.

    with Upstream() as upstream:
        yield upstream
    connection.close_idle_connections()


@pytest.fixture
def upstream(request: pytest.FixtureRequest) -> Iterator[Upstream]:
    """The providers, as one server: fresh for each test, and well as far as anybody knows."""
    fresh = "fresh_stack" in request.fixturenames
    upstream = request.getfixturevalue("fresh_upstream" if fresh else "shared_upstream")
    upstream.reset()
    if "server" in request.fixturenames:
        request.getfixturevalue("server").stack.forget_failures()
    yield upstream
    upstream.reset()


class Server:
    """A stack with one web and one worker process that many tests share, and its address."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.url = stack.web()
        stack.worker()

    @property
    def api(self) -> str:
        return f"{self.url}/api/v1/ai"

    def forget(self, upstream: Upstream) -> None:
        """Begin anew: nothing is scripted, and every provider is well as far as anybody knows."""
        upstream.reset()
        self.stack.forget_failures()


@pytest.fixture(scope="session", params=[DATABASES[0], DATABASES[2]])
def server(request: pytest.FixtureRequest, shared_upstream: Upstream) -> Iterator[Server]:
    """The product in front of the tests' upstream."""
    stack = Stack(
        **database_settings(request.param, request), **provider_settings(shared_upstream), sandbox=1
    )
    yield Server(stack)
    stack.close()


#: For the tests of the shared server for which the database makes no difference.
ON_SQLITE = pytest.mark.parametrize("server", DATABASES[:1], indirect=True)
#: For samples of those.
ON_POSTGRESQL = pytest.mark.parametrize("server", DATABASES[2:], indirect=True)
#: For those in which many calls of one process are in the database at the same time.
ON_EVERY_DATABASE = pytest.mark.parametrize("server", DATABASES, indirect=True)

#: For the tests with processes of their own that are worth it on a pool of one connection, too.
EVERY_DATABASE = pytest.mark.parametrize("fresh_stack", DATABASES, indirect=True)
#: For those of them for which the database makes no difference.
ONE_DATABASE = pytest.mark.parametrize("fresh_stack", DATABASES[:1], indirect=True)
#: For those that take long: `make test-all` runs them on one database, as a sample.
LONG_ON_POSTGRESQL = pytest.mark.parametrize(
    "fresh_stack",
    ["sqlite", pytest.param("postgresql", marks=[pytest.mark.postgres, pytest.mark.long])],
    indirect=True,
)


@pytest.fixture(params=DATABASES[:2])
def fresh_stack(request: pytest.FixtureRequest, upstream: Upstream) -> Iterator[Stack]:
    """A stack of a test's own, with no process started, for what would disturb others."""
    stack = Stack(**database_settings(request.param, request), **provider_settings(upstream))
    yield stack
    stack.close()


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    server = Valkey(Path(tmp_path_factory.mktemp("valkey")))
    yield server
    server.process.kill()


@pytest.fixture
def store(valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An empty Valkey, as the product's own connection."""
    from tests.store import emptied  # It imports what is ours.

    with emptied(valkey, monkeypatch) as connection:
        yield connection


@pytest.fixture(params=DATABASES[:2])
def stored(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Put a fresh database behind the seam, in this process."""
    import migrations  # They import what is ours.
    from config.settings import settings
    from database import engine

    found = database_settings(request.param, request)
    url = found.get("database_url", f"sqlite:///{tmp_path / 'test.db'}")
    monkeypatch.setattr(settings, "database_url", url.replace("postgresql:", "postgresql+psycopg:"))
    engine.engine.cache_clear()
    migrations.upgrade()
    yield
    engine.engine().dispose()
    engine.engine.cache_clear()


@pytest.fixture
def account(server: Server) -> Account:
    """A new account on the shared server, with credits to spare."""
    return server.stack.account(credits=10_000, plan="pro")


@pytest.fixture(scope="session")
def recordings_folder() -> Path:
    return Path(__file__).resolve().parents[2] / "shared" / "recordings"
