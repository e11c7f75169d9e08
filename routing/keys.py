"""A provider's keys: which of them to ask with now, and how long to leave one alone that is busy.

A provider limits a key for one of its models, not for all of them, so a 429 is remembered for both
together, in this process. Keys that are refused, and providers that fail, are for the breakers.
"""

import itertools
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from cachetools import TTLCache

from config.settings import settings
from routing import breakers
from routing.breakers import Breaker, Permit

#: A key that was busy again and again is left alone for longer and longer, up to this.
MAX_COOLDOWN_SECONDS = 30
#: After so many times in a row; until then it is asked again when its provider says, or, where that
#: says nothing, after this.
BUSY_IN_A_ROW = 3
FIRST_COOLDOWN_SECONDS = 0.5
#: A model that its vendor did not have so many times in a row is not asked for again for a while.
GONE_IN_A_ROW = 5
GONE_SECONDS = 60


@dataclass(frozen=True)
class Key:
    """A key to ask a provider with, and what its answer is noted with."""

    breaker: Breaker
    leave: Permit

    @property
    def secret(self) -> str:
        return self.breaker.secret


@dataclass(frozen=True)
class Cooldown:
    """No key may be used now: the soonest may in `seconds`. `busy`: a limit, not a failure."""

    seconds: float
    busy: bool


@dataclass
class _Limit:
    """How often in a row a key was busy for a model, and when it may be asked again."""

    in_a_row: int = 0
    until: float = 0


_turns: dict[str, Iterator[int]] = defaultdict(itertools.count)
_limits: TTLCache[tuple[str, str], _Limit] = TTLCache(maxsize=10_000, ttl=3600)
_gone: TTLCache[tuple[str, str], int] = TTLCache(maxsize=10_000, ttl=GONE_SECONDS)


def choose(provider: str, model: str) -> Key | Cooldown:
    """Return a key to ask `provider` for `model` with: of those that do not rest, each in turn."""
    rests: list[Cooldown] = []
    for breaker in sorted(_in_turn(provider), key=_precedence):
        if (busy := _limit(breaker, model).until - time.monotonic()) > 0:
            rests.append(Cooldown(busy, busy=True))
            continue
        leave = breaker.ask()
        if leave.granted:
            return Key(breaker, leave)
        rests.append(Cooldown(leave.wait, busy=False))
    return min(rests, key=lambda rest: (not rest.busy, rest.seconds))


def size(provider: str) -> int:
    """Return how many keys there are for `provider`."""
    return max(1, len(settings.keys_of(provider)))


def _in_turn(provider: str) -> list[Breaker]:
    """Return the breakers of all keys, each time beginning with another one."""
    # A provider that takes no key has one all the same: none.
    found = [breakers.of(provider, secret) for secret in settings.keys_of(provider) or [""]]
    first = next(_turns[provider]) % len(found)
    return found[first:] + found[:first]


def _precedence(breaker: Breaker) -> int:
    """A key that is to be probed comes first, for it stays out of use until somebody does."""
    if breaker.is_due:
        return 0
    return 1 if breaker.is_closed else 2


def record_success(key: Key, model: str, seconds: float) -> None:
    """Note an answer; `seconds`: until it was there, or its beginning."""
    key.breaker.succeeded(seconds, key.leave)
    _limits.pop((key.breaker.key_id, model), None)
    _gone.pop((key.breaker.provider, model), None)


def record_rate_limited(key: Key, model: str, stated: float | None) -> None:
    """Leave a key alone for as long as its provider `stated`, and longer each time it is busy."""
    limit = _limit(key.breaker, model)
    limit.in_a_row += 1
    more = min(MAX_COOLDOWN_SECONDS, 2.0 ** (limit.in_a_row - BUSY_IN_A_ROW))
    rest = max(stated or 0.0, more if limit.in_a_row >= BUSY_IN_A_ROW else FIRST_COOLDOWN_SECONDS)
    limit.until = time.monotonic() + rest
    _limits[key.breaker.key_id, model] = limit


def _limit(breaker: Breaker, model: str) -> _Limit:
    return _limits.get((breaker.key_id, model)) or _Limit()


def record_gone(provider: str, model: str) -> bool:
    """Tell whether the vendor said again and again that it does not have the model."""
    return _gone.get((provider, model), 0) >= GONE_IN_A_ROW


def has_gone(provider: str, model: str) -> None:
    """Note that the vendor said that it does not have the model."""
    _gone[provider, model] = _gone.get((provider, model), 0) + 1
