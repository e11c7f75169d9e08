"""A provider's key pool: which key to use now, and the cooldown of one that is rate limited.

A provider limits a key for one of its models, not for all of them, so a 429 is remembered per key
and model, in this process. The breakers see to keys that are refused and providers that fail.
"""

import itertools
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cachetools import TTLCache

from config.settings import settings
from routing import breakers
from routing.breakers import Breaker, Permit

#: The cooldown of a key doubles with each 429 in a row, up to this.
MAX_COOLDOWN_SECONDS = 30
#: It begins to double after this many in a row. Until then it is what the provider states, or else
#: `FIRST_COOLDOWN_SECONDS`.
BUSY_IN_A_ROW = 3
FIRST_COOLDOWN_SECONDS = 0.5
#: A model that its vendor reports as unknown this many times in a row is not tried for a while.
GONE_IN_A_ROW = 5
GONE_SECONDS = 60


@dataclass(frozen=True)
class Key:
    """A key to call a provider with, and the permit that its outcome is recorded with."""

    breaker: Breaker
    permit: Permit

    @property
    def secret(self) -> str:
        return self.breaker.secret


@dataclass(frozen=True)
class Cooldown:
    """No key may be used now; the first one may in `seconds`. `busy`: it is rate limited."""

    seconds: float
    busy: bool


@dataclass
class _Limit:
    """How many 429s in a row a key got for a model, and when it may be used again."""

    in_a_row: int = 0
    until: float = 0


_turns: dict[str, Iterator[int]] = defaultdict(itertools.count)
_limits: TTLCache[tuple[str, str], _Limit] = TTLCache(maxsize=10_000, ttl=3600)
_gone: TTLCache[tuple[str, str], int] = TTLCache(maxsize=10_000, ttl=GONE_SECONDS)


def choose(provider: str, model: str) -> Key | Cooldown:
    """Return a key to ask `provider` for `model` with: those without a cooldown take turns."""
    cooldowns: list[Cooldown] = []
    for breaker in sorted(_in_turn(provider), key=_precedence):
        if (seconds := _limit(breaker, model).until - time.monotonic()) > 0:
            cooldowns.append(Cooldown(seconds, busy=True))
            continue
        permit = breaker.ask()
        if permit.granted:
            return Key(breaker, permit)
        cooldowns.append(Cooldown(permit.wait, busy=False))
    return shortest(cooldowns)


def shortest(cooldowns: Iterable[Cooldown]) -> Cooldown:
    """Return the shortest of `cooldowns`; a rate limit's before a failure's."""
    return min(cooldowns, key=lambda cooldown: (not cooldown.busy, cooldown.seconds))


def size(provider: str) -> int:
    """Return how many keys there are for `provider`."""
    return max(1, len(settings.keys_of(provider)))


def _in_turn(provider: str) -> list[Breaker]:
    """Return the breakers of all keys, starting with the next one each time."""
    # A provider that needs no key has an empty one.
    all_breakers = [breakers.of(provider, secret) for secret in settings.keys_of(provider) or [""]]
    first = next(_turns[provider]) % len(all_breakers)
    return all_breakers[first:] + all_breakers[:first]


def _precedence(breaker: Breaker) -> int:
    """Sort a key that is due for a probe first: it stays out of use until it is probed."""
    if breaker.is_due:
        return 0
    return 1 if breaker.is_closed else 2


def record_success(key: Key, model: str, seconds: float) -> None:
    """Record an answer; `seconds`: until it, or its first chunk, was there."""
    key.breaker.succeeded(seconds, key.permit)
    _limits.pop((key.breaker.key_id, model), None)
    _gone.pop((key.breaker.provider, model), None)


def record_rate_limited(key: Key, model: str, stated: float | None) -> None:
    """Begin a cooldown of as long as the provider `stated`, and longer with each 429 in a row."""
    limit = _limit(key.breaker, model)
    limit.in_a_row += 1
    if limit.in_a_row < BUSY_IN_A_ROW:
        cooldown = FIRST_COOLDOWN_SECONDS
    else:
        cooldown = min(MAX_COOLDOWN_SECONDS, 2.0 ** (limit.in_a_row - BUSY_IN_A_ROW))
    limit.until = time.monotonic() + max(stated or 0.0, cooldown)
    _limits[key.breaker.key_id, model] = limit


def _limit(breaker: Breaker, model: str) -> _Limit:
    return _limits.get((breaker.key_id, model)) or _Limit()


def is_gone(provider: str, model: str) -> bool:
    """Tell whether the vendor reported the model as unknown `GONE_IN_A_ROW` times in a row."""
    return _gone.get((provider, model), 0) >= GONE_IN_A_ROW


def record_gone(provider: str, model: str) -> None:
    """Record that the vendor reported the model as unknown."""
    _gone[provider, model] = _gone.get((provider, model), 0) + 1
