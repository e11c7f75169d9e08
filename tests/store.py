"""A real Valkey behind the product's own connection, in this process."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import redis

from access import rate_limit
from config import connections
from config.settings import settings
from routing import breakers, pools
from tests.stack import Valkey


@contextmanager
def emptied(valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> Iterator[redis.Redis]:
    """Give an empty store, which the product's code in this process uses, too."""
    monkeypatch.setattr(settings, "redis_url", valkey.url)
    forget()
    connections.connection().flushall()
    yield connections.connection()
    connections.pool().disconnect()
    forget()


def forget() -> None:
    """Let what this process knows of Redis, and from it, be made anew."""
    for made in (connections.pool, connections.connection, breakers.of):
        made.cache_clear()
    for script in (rate_limit._script, breakers._script):
        script.cache_clear()
    pools._limits.clear()
    pools._gone.clear()
