"""The rate limit: at most the plan's requests per account in any 60 minutes.

A sliding window holds the time of each accepted request. It uses Redis's clock, which all machines
share, and a request is checked and counted in one round trip.
"""

import math
from dataclasses import dataclass
from functools import cache

import redis
from redis.commands.core import Script

from config.catalog.model import Plan
from config.redis import connection
from models.errors import RateLimitExceeded, Unavailable

WINDOW_SECONDS = 3600
NO_HIT = "The request could not be counted just now. Try again."

#: KEYS: the account's window. ARGV: the limit, the window in seconds, 1 to count a request.
#: Returns whether the request is accepted, the number of requests in the window, the microseconds
#: until one leaves it that makes room for another (0 if it is empty), and the mark of this request.
_SLIDE = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local limit, window, counted = tonumber(ARGV[1]), ARGV[2] * 1000000, ARGV[3] == '1'

local oldest = tonumber(redis.call('LINDEX', KEYS[1], -1))
while oldest and oldest <= now - window do
    redis.call('RPOP', KEYS[1])
    oldest = tonumber(redis.call('LINDEX', KEYS[1], -1))
end

local used = redis.call('LLEN', KEYS[1])
local accepted = used < limit
local mark = ''
if counted and accepted then
    mark = string.format('%.0f', now)
    redis.call('LPUSH', KEYS[1], mark)
    redis.call('EXPIRE', KEYS[1], ARGV[2])
    used = used + 1
    oldest = oldest or now
end

local leaves = tonumber(redis.call('LINDEX', KEYS[1], limit - 1)) or oldest
local wait = leaves and string.format('%.0f', leaves + window - now) or '0'
return {accepted and 1 or 0, used, wait, mark}
"""


@dataclass(frozen=True)
class Window:
    """The state of an account's rate window."""

    limit: int
    remaining: int
    #: Seconds until a request leaves the window that makes room for another.
    reset_seconds: float
    #: The window's entry for the request that was just counted: its time.
    mark: str = ""


@dataclass(frozen=True)
class Allowance:
    """Requests that have a window of their own."""

    #: What the window's key in Redis begins with.
    prefix: str
    #: What the message calls them.
    name: str
    #: How many times the plan's requests per hour are let in.
    factor: int


REQUESTS = Allowance("likedo:window", "requests", 1)
ESTIMATES = Allowance("likedo:window:estimates", "estimates", 10)


@cache
def _script() -> Script:
    return connection().register_script(_SLIDE)


def hit(account_id: int, plan: Plan, allowance: Allowance = REQUESTS) -> Window:
    """Count one request; raise `RateLimitExceeded`, without counting, if the window is full.

    Raises `Unavailable` if Redis does not answer: no request is accepted uncounted.
    """
    accepted, window = _slide(account_id, plan, allowance, counted=True)
    if not accepted:
        wait = math.floor(window.reset_seconds) + 1
        raise RateLimitExceeded(
            f"Rate limit reached: {window.limit} {allowance.name} per hour on the "
            f"{plan.name} plan. Try again in {wait} seconds.",
            retry_after=wait,
        )
    return window


def take_back(account_id: int, plan: Plan, mark: str) -> Window:
    """Remove a counted request from the window, and return the window's state.

    Raises `Unavailable` like `hit`.
    """
    try:
        connection().lrem(_key(account_id, REQUESTS), 1, mark)
    except redis.RedisError as error:
        raise Unavailable(NO_HIT) from error
    return peek(account_id, plan)


def peek(account_id: int, plan: Plan) -> Window:
    """Return the window's state, without counting."""
    return _slide(account_id, plan, REQUESTS, counted=False)[1]


def _slide(account_id: int, plan: Plan, allowance: Allowance, counted: bool) -> tuple[bool, Window]:
    limit = plan.requests_per_hour * allowance.factor
    try:
        accepted, used, wait, mark = _script()(
            keys=[_key(account_id, allowance)], args=[limit, WINDOW_SECONDS, int(counted)]
        )
    except redis.RedisError as error:
        raise Unavailable(NO_HIT) from error
    window = Window(limit, max(0, limit - used), int(wait) / 1_000_000, mark.decode())
    return bool(accepted), window


def _key(account_id: int, allowance: Allowance) -> str:
    return f"{allowance.prefix}:{account_id}"
