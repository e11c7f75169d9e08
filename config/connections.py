"""The one place that opens connections to Redis."""

from functools import cache

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from config.settings import settings

#: Seconds until a command counts as unanswered. Longer than any blocking command of ours.
SOCKET_TIMEOUT_SECONDS = 5
CONNECT_TIMEOUT_SECONDS = 2
#: A burst of greenlets shares this many; the rest waits its turn for a round trip.
POOL_SIZE = 100
POOL_WAIT_SECONDS = 10


@cache
def pool() -> redis.BlockingConnectionPool:
    """Return this process's pool of connections, the one pool everything here shares."""
    return redis.BlockingConnectionPool.from_url(
        settings.redis_url,
        max_connections=POOL_SIZE,
        timeout=POOL_WAIT_SECONDS,
        socket_timeout=SOCKET_TIMEOUT_SECONDS,
        socket_connect_timeout=CONNECT_TIMEOUT_SECONDS,
        # One more try makes up for a connection that the server closed while it was idle. More
        # would keep callers waiting for a 503 that is already certain.
        retry=Retry(NoBackoff(), 1),
        retry_on_error=[redis.ConnectionError],
    )


@cache
def connection() -> redis.Redis:
    """Return this process's client. A seam: tests put another in its place."""
    return redis.Redis(connection_pool=pool())
