"""A real Valkey behind the product's own connection, in this process."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import redis

from access import rate_limit
from config import redis as redis_config
from config.settings import settings
from routing import breakers, keys
from tests.stack import Valkey


@contextmanager
def emptied(valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> Iterator[redis.Redis]:
    """Give an empty store, which the product's code in this process uses, too."""
    monkeypatch.setattr(settings, "redis_url", valkey.url)
    forget()
    redis_config.connection().flushall()
    yield redis_config.connection()
    redis_config.pool().disconnect()
    forget()


def forget() -> None:
    """Let what this process knows of Redis, and from it, be made anew."""
    for made in (redis_config.pool, redis_config.connection, breakers.of):
        made.cache_clear()
    for script in (rate_limit._script, breakers._script):
        script.cache_clear()
    keys._limits.clear()
    keys._gone.clear()
