"""A real Valkey behind the seam, in this process."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from access import rate_limit
from config import connections
from config.settings import settings
from tests.stack import Valkey


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    server = Valkey(Path(tmp_path_factory.mktemp("valkey")))
    yield server
    server.process.kill()


@pytest.fixture
def store(valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> Iterator[redis.Redis]:
    """An empty Valkey, as the product's own connection."""
    monkeypatch.setattr(settings, "redis_url", valkey.url)
    forget()
    connections.connection().flushall()
    yield connections.connection()
    connections.pool().disconnect()
    forget()


def forget() -> None:
    connections.pool.cache_clear()
    connections.connection.cache_clear()
    rate_limit._script.cache_clear()
