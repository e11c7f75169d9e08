"""Failed authentication: an address that sends too many wrong keys is refused for a minute.

All web processes count together, in Redis. While that does not answer, nothing is refused for it.
"""

import contextlib
from typing import Any

import redis
import structlog

from config import networks
from config.networks import Address
from config.redis import connection
from models.errors import RateLimitExceeded

log = structlog.get_logger()

#: Failures of an address in a minute, which begins with the first of them.
MAX_FAILURES = 100
WINDOW_SECONDS = 60


def check(address: Address | None) -> None:
    """Raise `RateLimitExceeded` if `address`, None if unknown, has failed too often."""
    try:
        with connection().pipeline() as pipeline:
            pipeline.get(_key(address))
            pipeline.pttl(_key(address))
            failures, left = pipeline.execute()
    except redis.RedisError:
        return
    if int(failures or 0) >= MAX_FAILURES:
        wait = max(0, int(left)) // 1000 + 1
        raise RateLimitExceeded(
            f"Too many requests with wrong API keys came from your address. Try again in {wait} "
            "seconds.",
            retry_after=wait,
        )


def count(address: Address | None) -> None:
    """Count a failure of `address`."""
    with contextlib.suppress(redis.RedisError), connection().pipeline() as pipeline:
        pipeline.set(_key(address), 0, ex=WINDOW_SECONDS, nx=True)
        pipeline.incr(_key(address))
        results: list[Any] = pipeline.execute()
        if int(results[-1]) == MAX_FAILURES:
            log.warning("authentication.blocked", address=str(address), seconds=WINDOW_SECONDS)


def _key(address: Address | None) -> str:
    return f"likedo:failures:{networks.subscriber(address) if address else 'unknown'}"
