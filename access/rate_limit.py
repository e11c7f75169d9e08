"""Requests per hour: never more than the plan's limit in any 60 minutes, for a whole account."""

import math
import time
from dataclasses import dataclass
from functools import cache

import redis
from limits.storage import RedisStorage

from config.catalog import Plan
from config.connections import pool
from config.settings import settings
from models import errors

WINDOW_SECONDS = 3600
#: Added to what is waited for, since the window's clock counts in fractions of a second.
MARGIN_SECONDS = 0.01


@dataclass(frozen=True)
class Window:
    """How an account stands in its sliding hour."""

    limit: int
    remaining: int
    #: Seconds until the oldest request in the window leaves it.
    reset_seconds: float


@cache
def _storage() -> RedisStorage:
    return RedisStorage(settings.redis_url, connection_pool=pool())


def count(account_id: int, plan: Plan) -> Window:
    """Count one request; raise `RateLimitExceeded` where the window is full, without counting.

    Raises `Unavailable` where Redis does not answer: nobody is let in uncounted.
    """
    with _asking_redis():
        accepted = _storage().acquire_entry(
            _key(account_id), plan.requests_per_hour, WINDOW_SECONDS
        )
    window = look(account_id, plan)
    if not accepted:
        wait = max(1, math.ceil(window.reset_seconds + MARGIN_SECONDS))
        raise errors.RateLimitExceeded(
            f"Rate limit reached: {plan.requests_per_hour} requests per hour on the "
            f"{plan.name} plan. Try again in {wait} seconds.",
            retry_after=wait,
        )
    return window


def look(account_id: int, plan: Plan) -> Window:
    """Return how the account stands, without counting."""
    with _asking_redis():
        start, used = _storage().get_moving_window(
            _key(account_id), plan.requests_per_hour, WINDOW_SECONDS
        )
    reset = start + WINDOW_SECONDS - time.time() if used else 0.0
    remaining = max(0, plan.requests_per_hour - used)
    return Window(plan.requests_per_hour, remaining, max(0.0, reset))


def _key(account_id: int) -> str:
    return f"account:{account_id}"


class _asking_redis:  # noqa: N801  # it reads as the context manager it is
    """Says `Unavailable` for whatever Redis fails with."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, redis.RedisError):
            raise errors.Unavailable(
                "The request could not be counted just now. Try again."
            ) from error
