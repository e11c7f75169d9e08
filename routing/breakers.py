"""Circuit breakers: how each key of each provider is doing, known to all workers through Redis.

A breaker opens on failures in a row or on a rate of them, and at once if a key is refused. While it
is open no call is made; then one call at a time may probe, and its success closes the breaker.
While it is closed, successes are reported to Redis once a second, and no call waits for Redis.
"""

import hashlib
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import gevent
import redis
import structlog
from redis.commands.core import Script

from config.redis import connection
from config.settings import settings

log = structlog.get_logger()

#: The weight of past calls decays: to about a third (1/e) after this many seconds.
DECAY_SECONDS = 20
#: A breaker opens on this many failures in a row.
MAX_IN_A_ROW = 20
#: It also opens on this weight of failures, if they are at least half of all calls.
MIN_FAILED = 20
#: It stays open for this long at first, then for twice as long each time, up to the maximum.
FIRST_COOLDOWN_SECONDS = 5
MAX_COOLDOWN_SECONDS = 30
#: A probe that has not ended within this time no longer prevents another.
PROBE_SECONDS = 15
#: How often each process reports its successes and reads the state of all breakers.
REFRESH_SECONDS = 1
#: The state of a key that is not used expires after this.
EXPIRY_SECONDS = 3600

#: Why a breaker is open.
FAILING, REFUSED = "failing", "refused"

_READ = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local function of(name) return tonumber(redis.call('HGET', KEYS[1], name) or 0) end
"""

#: KEYS: the breaker. ARGV: the successes since the last report, the sum of their seconds, why
#: another call failed or '', whether the last call was a probe. Returns the seconds that it stays
#: open, why, and 'open' or '', as texts.
_RECORD = f"""{_READ}
local successes, seconds, why, probe = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4] == '1'
local left = math.exp(math.min(0, of('at') - now) / {DECAY_SECONDS})
local good, failed = of('good') * left + successes, of('failed') * left
local in_a_row, open_until, cooldowns = of('in_a_row'), of('open_until'), of('rests')
local reason = redis.call('HGET', KEYS[1], 'reason') or ''
if successes > 0 then
    in_a_row = 0
    if probe and why == '' then open_until, cooldowns, failed, reason = 0, 0, 0, '' end
end
if why ~= '' then
    failed, in_a_row = failed + 1, in_a_row + 1
    local opens = probe or why == '{REFUSED}' or in_a_row >= {MAX_IN_A_ROW}
    opens = opens or (failed >= {MIN_FAILED} and failed >= good)
    if opens and (probe or open_until == 0) then
        local cooldown = {FIRST_COOLDOWN_SECONDS} * 2 ^ cooldowns
        open_until = now + math.min({MAX_COOLDOWN_SECONDS}, cooldown)
        cooldowns, reason = math.min(cooldowns + 1, 10), why
    end
end
redis.call('HSET', KEYS[1], 'at', string.format('%.3f', now), 'good', good, 'failed', failed,
    'seconds', of('seconds') * left + seconds, 'in_a_row', in_a_row, 'rests', cooldowns,
    'open_until', string.format('%.3f', open_until), 'reason', reason)
if probe then redis.call('HDEL', KEYS[1], 'probe_until') end
redis.call('EXPIRE', KEYS[1], {EXPIRY_SECONDS})
return {{tostring(math.max(0, open_until - now)), reason, open_until == 0 and '' or 'open'}}
"""

#: KEYS: the breaker. Returns 'closed'; 'probe' if the caller may probe; or 'open', the seconds
#: until that may change, and why.
_ASK = f"""{_READ}
local open_until, probe_until = of('open_until'), of('probe_until')
if open_until == 0 then return {{'closed', '0', ''}} end
local wait = math.max(open_until, probe_until) - now
if wait > 0 then return {{'open', tostring(wait), redis.call('HGET', KEYS[1], 'reason')}} end
redis.call('HSET', KEYS[1], 'probe_until', string.format('%.3f', now + {PROBE_SECONDS}))
return {{'probe', '0', ''}}
"""


@dataclass(frozen=True)
class Permit:
    """A breaker's reply to a request to call the provider."""

    granted: bool
    #: Whether the outcome of the call decides if the breaker closes.
    is_probe: bool = False
    #: Seconds until the reply may be another one.
    wait: float = 0
    reason: str = ""


GRANTED = Permit(granted=True)


class Breaker:
    """The state of one key of one provider as this process knows it, shared through Redis."""

    def __init__(self, provider: str, secret: str) -> None:
        #: Identifies the key without revealing it.
        self.key_id = hashlib.sha256(f"{provider}:{secret}".encode()).hexdigest()[:12]
        self.provider = provider
        self.secret = secret
        self.is_closed = True
        #: When, on the monotonic clock, the state of an open breaker may have changed.
        self._due = 0.0
        #: Successes that are not reported yet, and the sum of their seconds.
        self._successes = 0
        self._seconds = 0.0

    @property
    def name(self) -> str:
        return f"likedo:breaker:{self.provider}:{self.key_id}"

    @property
    def is_due(self) -> bool:
        """Whether it is open and may let a probe through."""
        return not self.is_closed and time.monotonic() >= self._due

    def ask(self) -> Permit:
        """Ask for a permit; if the breaker is open, Redis decides, since it knows of all probes."""
        if self.is_closed:
            return GRANTED
        try:
            state, wait, reason = _texts(_script(_ASK)(keys=[self.name]))
        except redis.RedisError as error:
            log.warning("breaker.state_unknown", provider=self.provider, reason=str(error))
            return GRANTED
        self.is_closed = state == "closed"
        self._due = time.monotonic() + float(wait)
        return Permit(state != "open", state == "probe", float(wait), reason)

    def succeeded(self, seconds: float, permit: Permit) -> None:
        """Record a success; `seconds`: until the answer, or its first chunk, was there."""
        self._successes += 1
        self._seconds += seconds
        if permit.is_probe:
            self._record("", probe=True)

    def failed(self, reason: str, permit: Permit) -> None:
        """Record a failure: the provider's own, or its refusal of the key."""
        self._record(reason, probe=permit.is_probe)

    def _record(self, reason: str, probe: bool) -> None:
        successes, seconds = self._take_unreported()
        try:
            reply = _script(_RECORD)(
                keys=[self.name], args=[successes, seconds, reason, int(probe)]
            )
        except redis.RedisError as error:
            log.warning("breaker.not_recorded", provider=self.provider, reason=str(error))
            return
        self._update(reply)

    def _take_unreported(self) -> tuple[int, float]:
        unreported = self._successes, self._seconds
        self._successes, self._seconds = 0, 0.0
        return unreported

    def _update(self, reply: Any) -> None:
        wait, reason, state = _texts(reply)
        was_closed, self.is_closed = self.is_closed, state != "open"
        self._due = time.monotonic() + float(wait)
        if was_closed and not self.is_closed:
            log.error("breaker.opened", provider=self.provider, key=self.key_id, reason=reason)
        elif self.is_closed and not was_closed:
            log.info("breaker.closed", provider=self.provider, key=self.key_id)


@cache
def of(provider: str, secret: str) -> Breaker:
    """Return this process's breaker for one key of one provider."""
    return Breaker(provider, secret)


@cache
def _script(text: str) -> Script:
    return connection().register_script(text)


def _texts(values: Any) -> list[str]:
    return [value.decode() if isinstance(value, bytes) else str(value) for value in values]


def keep_fresh(providers: Iterable[str]) -> None:
    """Refresh the breakers every `REFRESH_SECONDS`, for ever."""
    while True:
        gevent.sleep(REFRESH_SECONDS)
        try:
            refresh(providers)
        except redis.RedisError as error:
            log.warning("breakers.not_refreshed", reason=str(error))
        except Exception:  # A greenlet's outermost handler.
            log.exception("breakers.failed")


def refresh(providers: Iterable[str]) -> None:
    """Report this process's successes and read the state of all breakers, in one round trip."""
    breakers = list(_all(providers))
    if not breakers:
        return
    script = _script(_RECORD)
    with connection().pipeline(transaction=False) as pipeline:
        for breaker in breakers:
            successes, seconds = breaker._take_unreported()
            script(keys=[breaker.name], args=[successes, seconds, "", 0], client=pipeline)
        for breaker, reply in zip(breakers, pipeline.execute(), strict=True):
            breaker._update(reply)


def _all(providers: Iterable[str]) -> Iterator[Breaker]:
    for provider in providers:
        for secret in settings.keys_of(provider):
            yield of(provider, secret)


@dataclass(frozen=True)
class Reading:
    """How one key is doing, as all processes know it together."""

    key_id: str
    #: `closed`, `open`, or `half_open` if the next call may probe.
    state: str
    reason: str
    #: The share of failures among the calls that still count; None if there were none.
    error_rate: float | None
    #: Mean seconds until an answer, or its first chunk, was there; None if there was none.
    latency_seconds: float | None
    failures_in_a_row: int


def read(provider: str, secret: str) -> Reading:
    """Return how one key is doing; raise `redis.RedisError` if that is unknown."""
    breaker = of(provider, secret)
    stored = cast("dict[bytes, bytes]", connection().hgetall(breaker.name))
    fields = {name.decode(): value.decode() for name, value in stored.items()}
    number = {name: float(value or 0) for name, value in fields.items() if name != "reason"}
    good, failed = number.get("good", 0.0), number.get("failed", 0.0)
    return Reading(
        breaker.key_id,
        _state(number.get("open_until", 0.0)),
        fields.get("reason", ""),
        round(failed / (good + failed), 4) if good + failed > 0 else None,
        round(number["seconds"] / good, 4) if good > 0 else None,
        int(number.get("in_a_row", 0)),
    )


def _state(open_until: float) -> str:
    if not open_until:
        return "closed"
    seconds, microseconds = connection().time()
    return "open" if seconds + microseconds / 1e6 < open_until else "half_open"
