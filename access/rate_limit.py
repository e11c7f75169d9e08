"""The rate limit: at most the plan's requests per account in any 60 minutes, and a key's own.

A sliding window holds the time of each accepted request. It uses Redis's clock, which all machines
share. A request is checked and counted in one round trip, in both windows or in neither.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import redis
from redis.commands.core import Script

from config.catalog.model import Plan
from config.redis import connection
from models.errors import RateLimitExceeded, Unavailable

WINDOW_SECONDS = 3600
NO_HIT = "The request could not be counted just now. Try again."

#: KEYS: the windows. ARGV: the window in seconds, 1 to count a request, the limit of each window.
#: Returns whether the request is accepted, its mark and, for each window, the number of requests in
#: it and the microseconds until one leaves it that makes room for another (0 if it is empty).
_SLIDE = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local window, counted = ARGV[1] * 1000000, ARGV[2] == '1'

local accepted = true
for number, key in ipairs(KEYS) do
    local oldest = tonumber(redis.call('LINDEX', key, -1))
    while oldest and oldest <= now - window do
        redis.call('RPOP', key)
        oldest = tonumber(redis.call('LINDEX', key, -1))
    end
    accepted = accepted and redis.call('LLEN', key) < tonumber(ARGV[number + 2])
end

local reply = {accepted and 1 or 0, ''}
if counted and accepted then
    reply[2] = string.format('%.0f', now)
end
for number, key in ipairs(KEYS) do
    if reply[2] ~= '' then
        redis.call('LPUSH', key, reply[2])
        redis.call('EXPIRE', key, ARGV[1])
    end
    local limit = tonumber(ARGV[number + 2])
    local leaves = redis.call('LINDEX', key, limit - 1) or redis.call('LINDEX', key, -1)
    reply[#reply + 1] = redis.call('LLEN', key)
    reply[#reply + 1] = leaves and string.format('%.0f', tonumber(leaves) + window - now) or '0'
end
return reply
"""


@dataclass(frozen=True)
class Window:
    """The state of an account's rate window, or of a key's if that has less room."""

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


@dataclass(frozen=True)
class KeyLimit:
    """A key's own requests per hour."""

    key_id: int
    requests_per_hour: int


@dataclass(frozen=True)
class _Limit:
    """A window in Redis, its limit, and what the message says of it."""

    key: str
    requests: int
    subject: str


class WindowFull(RateLimitExceeded):
    """The request was not counted, since `window` is full."""

    def __init__(self, subject: str, window: Window) -> None:
        wait = math.floor(window.reset_seconds) + 1
        super().__init__(
            f"Rate limit reached: {window.limit} {subject}. Try again in {wait} seconds.",
            retry_after=wait,
        )
        self.window = window


@cache
def _script() -> Script:
    return connection().register_script(_SLIDE)


def hit(
    account_id: int, plan: Plan, key: KeyLimit | None = None, allowance: Allowance = REQUESTS
) -> Window:
    """Count one request; raise `WindowFull`, without counting, if a window is full.

    Raises `Unavailable` if Redis does not answer: no request is accepted uncounted.
    """
    limits = _limits(account_id, plan, key, allowance)
    accepted, windows = _slide(limits, counted=True)
    if accepted:
        return _tightest(windows)
    # It has to wait for the last of those that are full.
    full = [pair for pair in zip(limits, windows, strict=True) if not pair[1].remaining]
    limit, window = max(full, key=lambda pair: pair[1].reset_seconds)
    raise WindowFull(limit.subject, window)


def take_back(account_id: int, plan: Plan, mark: str, key: KeyLimit | None = None) -> Window:
    """Remove a counted request from its windows, and return the state of the tightest.

    Raises `Unavailable` like `hit`.
    """
    try:
        for limit in _limits(account_id, plan, key, REQUESTS):
            connection().lrem(limit.key, 1, mark)
    except redis.RedisError as error:
        raise Unavailable(NO_HIT) from error
    return peek(account_id, plan, key)


def peek(account_id: int, plan: Plan, key: KeyLimit | None = None) -> Window:
    """Return the state of the tightest window, without counting."""
    return _tightest(_slide(_limits(account_id, plan, key, REQUESTS), counted=False)[1])


def _limits(
    account_id: int, plan: Plan, key: KeyLimit | None, allowance: Allowance
) -> list[_Limit]:
    limit = plan.requests_per_hour * allowance.factor
    subject = f"{allowance.name} per hour on the {plan.name} plan"
    limits = [_Limit(f"{allowance.prefix}:{account_id}", limit, subject)]
    if key is not None and allowance is REQUESTS:
        window = f"{allowance.prefix}:key:{key.key_id}"
        limits.append(_Limit(window, key.requests_per_hour, "requests per hour with this key"))
    return limits


def _tightest(windows: Sequence[Window]) -> Window:
    return min(windows, key=lambda window: window.remaining)


def _slide(limits: Sequence[_Limit], counted: bool) -> tuple[bool, list[Window]]:
    try:
        accepted, mark, *states = _script()(
            keys=[limit.key for limit in limits],
            args=[WINDOW_SECONDS, int(counted), *(limit.requests for limit in limits)],
        )
    except redis.RedisError as error:
        raise Unavailable(NO_HIT) from error
    windows = [
        Window(limit.requests, max(0, limit.requests - used), int(wait) / 1_000_000, mark.decode())
        for limit, used, wait in zip(limits, states[::2], states[1::2], strict=True)
    ]
    return bool(accepted), windows
