"""Circuit breakers: how each key of each provider is doing, known to all workers through Redis.

A breaker opens on failures in a row or on a rate of them, and at once where a key is refused. While
it is open nobody asks; then one call at a time may probe, and its success closes the breaker. While
all is well Redis is told once a second of what went well, and asked for nothing on a call's way.
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

#: What has happened counts for less and less: a third of it after so many seconds.
FADING_SECONDS = 20
#: A breaker opens on so many failures in a row,
MAX_IN_A_ROW = 20
#: or on so many, as far as they still count, where they are half of all calls or more.
MIN_FAILED = 20
#: It stays open for so long at first, then for twice as long each time, up to the longest.
FIRST_COOLDOWN_SECONDS = 5
MAX_COOLDOWN_SECONDS = 30
#: A probe that has not ended in this time does not keep another from being sent.
PROBE_SECONDS = 15
#: How often the workers tell each other.
REFRESH_SECONDS = 1
#: What is known of a key that nobody uses is forgotten after this.
FORGOTTEN_SECONDS = 3600

#: Why a breaker is open.
FAILING, REFUSED = "failing", "refused"

_READ = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local function of(name) return tonumber(redis.call('HGET', KEYS[1], name) or 0) end
"""

#: KEYS: the breaker. ARGV: calls that went well since last told, their seconds, why another one
#: failed or '', whether that or the last one was a probe. Returns the seconds it stays open, and
#: why, as texts.
_NOTE = f"""{_READ}
local went_well, seconds, why, probe = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4] == '1'
local left = math.exp(math.min(0, of('at') - now) / {FADING_SECONDS})
local good, failed = of('good') * left + went_well, of('failed') * left
local in_a_row, open_until, rests = of('in_a_row'), of('open_until'), of('rests')
local reason = redis.call('HGET', KEYS[1], 'reason') or ''
if went_well > 0 then
    in_a_row = 0
    if probe and why == '' then open_until, rests, failed, reason = 0, 0, 0, '' end
end
if why ~= '' then
    failed, in_a_row = failed + 1, in_a_row + 1
    local opens = probe or why == '{REFUSED}' or in_a_row >= {MAX_IN_A_ROW}
    opens = opens or (failed >= {MIN_FAILED} and failed >= good)
    if opens and (probe or open_until == 0) then
        open_until = now + math.min({MAX_COOLDOWN_SECONDS}, {FIRST_COOLDOWN_SECONDS} * 2 ^ rests)
        rests, reason = math.min(rests + 1, 10), why
    end
end
redis.call('HSET', KEYS[1], 'at', string.format('%.3f', now), 'good', good, 'failed', failed,
    'seconds', of('seconds') * left + seconds, 'in_a_row', in_a_row, 'rests', rests,
    'open_until', string.format('%.3f', open_until), 'reason', reason)
if probe then redis.call('HDEL', KEYS[1], 'probe_until') end
redis.call('EXPIRE', KEYS[1], {FORGOTTEN_SECONDS})
return {{tostring(math.max(0, open_until - now)), reason, open_until == 0 and '' or 'open'}}
"""

#: KEYS: the breaker. Returns 'closed'; 'probe', where the caller may be the one to probe; or
#: 'open', the seconds until that may change, and why.
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
    """What a breaker says to somebody who wants to ask."""

    granted: bool
    #: Whether the answer decides if the breaker closes.
    is_probe: bool = False
    #: Seconds until it may say something else.
    wait: float = 0
    reason: str = ""


GRANTED = Permit(granted=True)


class Breaker:
    """What this process knows of one key of one provider, and tells the others."""

    def __init__(self, provider: str, secret: str) -> None:
        #: Names the key and does not tell it.
        self.key_id = hashlib.sha256(f"{provider}:{secret}".encode()).hexdigest()[:12]
        self.provider = provider
        self.secret = secret
        self.is_closed = True
        #: When, on the monotonic clock, an open one may have changed its mind.
        self._due = 0.0
        #: What went well and was not told yet: calls, and their seconds.
        self._good = 0
        self._seconds = 0.0

    @property
    def name(self) -> str:
        return f"likedo:breaker:{self.provider}:{self.key_id}"

    @property
    def is_due(self) -> bool:
        """Whether it is open, and a probe may be wanted."""
        return not self.is_closed and time.monotonic() >= self._due

    def ask(self) -> Permit:
        """Ask for leave; of an open breaker Redis is asked, which knows who probes."""
        if self.is_closed:
            return GRANTED
        try:
            said, wait, reason = _texts(_script(_ASK)(keys=[self.name]))
        except redis.RedisError as error:
            log.warning("breaker.unknown", provider=self.provider, reason=str(error))
            return GRANTED
        self.is_closed = said == "closed"
        self._due = time.monotonic() + float(wait)
        return Permit(said != "open", said == "probe", float(wait), reason)

    def succeeded(self, seconds: float, leave: Permit) -> None:
        """Note a call that went well; `seconds`: until the answer was there, or its beginning."""
        self._good += 1
        self._seconds += seconds
        if leave.is_probe:
            self._tell("", probe=True)

    def failed(self, reason: str, leave: Permit) -> None:
        """Note a call that failed because the provider does, or because it refuses the key."""
        self._tell(reason, probe=leave.is_probe)

    def _tell(self, reason: str, probe: bool) -> None:
        good, seconds = self._take()
        try:
            told = _script(_NOTE)(keys=[self.name], args=[good, seconds, reason, int(probe)])
        except redis.RedisError as error:
            log.warning("breaker.not_told", provider=self.provider, reason=str(error))
            return
        self._learn(told)

    def _take(self) -> tuple[int, float]:
        taken = self._good, self._seconds
        self._good, self._seconds = 0, 0.0
        return taken

    def _learn(self, told: Any) -> None:
        wait, reason, state = _texts(told)
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
    """Tell the other processes what went well here, and learn what failed there, for ever."""
    while True:
        gevent.sleep(REFRESH_SECONDS)
        try:
            refresh(providers)
        except redis.RedisError as error:
            log.warning("breakers.wait", reason=str(error))
        except Exception:  # A greenlet's outermost door.
            log.exception("breakers.broke")


def refresh(providers: Iterable[str]) -> None:
    """Tell and learn once, with one round trip."""
    known = list(_all(providers))
    if not known:
        return
    script = _script(_NOTE)
    with connection().pipeline(transaction=False) as pipeline:
        for breaker in known:
            good, seconds = breaker._take()
            script(keys=[breaker.name], args=[good, seconds, "", 0], client=pipeline)
        for breaker, told in zip(known, pipeline.execute(), strict=True):
            breaker._learn(told)


def _all(providers: Iterable[str]) -> Iterator[Breaker]:
    for provider in providers:
        for secret in settings.keys_of(provider):
            yield of(provider, secret)


@dataclass(frozen=True)
class Reading:
    """How one key is doing, as all processes know it together."""

    key_id: str
    #: `closed`, `open`, or `half_open` where the next call may probe.
    state: str
    reason: str
    #: Of the calls that still count, the part that failed; None where there were none.
    error_rate: float | None
    #: Mean seconds until an answer, or its beginning, was there; None where there was none.
    latency_seconds: float | None
    failures_in_a_row: int


def read(provider: str, secret: str) -> Reading:
    """Return how one key is doing; raise `redis.RedisError` where nobody can tell."""
    breaker = of(provider, secret)
    found = cast("dict[bytes, bytes]", connection().hgetall(breaker.name))
    known = {name.decode(): value.decode() for name, value in found.items()}
    number = {name: float(value or 0) for name, value in known.items() if name != "reason"}
    good, failed = number.get("good", 0.0), number.get("failed", 0.0)
    return Reading(
        breaker.key_id,
        _state(number.get("open_until", 0.0)),
        known.get("reason", ""),
        round(failed / (good + failed), 4) if good + failed > 0 else None,
        round(number["seconds"] / good, 4) if good > 0 else None,
        int(number.get("in_a_row", 0)),
    )


def _state(open_until: float) -> str:
    if not open_until:
        return "closed"
    seconds, microseconds = connection().time()
    return "open" if seconds + microseconds / 1e6 < open_until else "half_open"
