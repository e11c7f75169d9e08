"""The one place that opens connections to Redis."""

import socket
from functools import cache

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from config.settings import settings

#: Seconds until a command counts as unanswered. Longer than any blocking command of ours.
SOCKET_TIMEOUT_SECONDS = 5
CONNECT_TIMEOUT_SECONDS = 2
#: Greenlets share this many connections; in a burst the others wait for a free one.
POOL_SIZE = 100
POOL_WAIT_SECONDS = 10


class _Peeking(redis.Connection):
    """A connection that checks with one system call whether the server has closed it.

    redis-py checks each time it takes a connection from the pool. Its `poll` is a detour through
    the hub under gevent, measured at a twentieth of a call's whole CPU time.
    """

    def can_read(self, timeout: float = 0) -> bool:
        raw = getattr(self._sock, "_sock", None)  # gevent's name for the socket it wraps
        if timeout or raw is None:
            return bool(super().can_read(timeout))
        try:
            seen = raw.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        if not seen:
            raise redis.ConnectionError("The server closed the connection.")
        return True


@cache
def pool() -> redis.BlockingConnectionPool:
    """Return this process's one pool of connections."""
    plain = settings.redis_url.startswith("redis://")
    return redis.BlockingConnectionPool.from_url(
        settings.redis_url,
        **({"connection_class": _Peeking} if plain else {}),
        max_connections=POOL_SIZE,
        timeout=POOL_WAIT_SECONDS,
        socket_timeout=SOCKET_TIMEOUT_SECONDS,
        socket_connect_timeout=CONNECT_TIMEOUT_SECONDS,
        # One retry, in case the server closed the connection while it was idle. More would keep
        # callers waiting for a 503 that is already certain.
        retry=Retry(NoBackoff(), 1),
        retry_on_error=[redis.ConnectionError],
    )


@cache
def connection() -> redis.Redis:
    """Return this process's client. A seam: tests replace it."""
    return redis.Redis(connection_pool=pool())


def dedicated() -> redis.Connection:
    """Return a new connection for one greenlet, without retries: it must notice a lost one."""
    shared = pool()
    options = shared.connection_kwargs | {"protocol": 2, "retry": None, "retry_on_error": []}
    made: redis.Connection = shared.connection_class(**options)
    return made
