"""When a key is left alone, who may probe, and when it is in use again: for all processes alike."""

from typing import Any

import pytest
import redis
from redis.commands.core import Script

from routing import breakers
from routing.breakers import FAILING, GRANTED, MAX_IN_A_ROW, REFUSED, Breaker

PROVIDER, KEY = "openai", "sk-secret"


@pytest.fixture
def breaker(store: redis.Redis) -> Breaker:
    return Breaker(PROVIDER, KEY)


@pytest.fixture
def other(breaker: Breaker) -> Breaker:
    """The same key, as another process knows it."""
    return Breaker(PROVIDER, KEY)


def fail(breaker: Breaker, times: int = MAX_IN_A_ROW, reason: str = FAILING) -> None:
    for _ in range(times):
        breaker.failed(reason, GRANTED)


def rest_is_over(store: redis.Redis, breaker: Breaker) -> None:
    """Let the time pass that the breaker stays open."""
    store.hset(breaker.name, "open_until", "1")
    breaker._due = 0


def open_seconds(store: redis.Redis, breaker: Breaker) -> float:
    until = float(store.hget(breaker.name, "open_until") or 0)
    seconds, microseconds = store.time()
    return until - seconds - microseconds / 1e6


def refresh(monkeypatch: pytest.MonkeyPatch, breaker: Breaker) -> None:
    monkeypatch.setattr(breakers, "_all", lambda _: [breaker])
    breakers.refresh([PROVIDER])


def test_a_few_failures_are_no_reason_to_stop(breaker: Breaker) -> None:
    fail(breaker, breakers.MIN_FAILED - 1)

    assert breaker.ask() == GRANTED


def test_failures_in_a_row_open_it(breaker: Breaker) -> None:
    for _ in range(1000):
        breaker.succeeded(0.1, GRANTED)

    fail(breaker)

    assert not breaker.ask().granted


def test_failures_that_are_half_of_all_open_it(breaker: Breaker) -> None:
    # The first of them counts a little less by the time of the last.
    for _ in range(breakers.MIN_FAILED + 1):
        breaker.succeeded(0.1, GRANTED)
        fail(breaker, 1)

    assert not breaker.ask().granted


def test_failures_that_are_fewer_than_half_do_not(breaker: Breaker) -> None:
    for _ in range(50):
        breaker.succeeded(0.1, GRANTED)
        breaker.succeeded(0.1, GRANTED)
        fail(breaker, 1)

    assert breaker.ask() == GRANTED


def test_one_refusal_of_the_key_opens_it(breaker: Breaker) -> None:
    fail(breaker, 1, REFUSED)

    permit = breaker.ask()
    assert (permit.granted, permit.reason) == (False, "refused")
    # It is kept rounded to the millisecond.
    assert 0 < permit.wait <= breakers.FIRST_COOLDOWN_SECONDS + 0.001


def test_other_processes_learn_of_it(
    breaker: Breaker, other: Breaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail(breaker)
    assert other.ask().granted

    refresh(monkeypatch, other)

    assert not other.ask().granted


def test_failures_of_all_processes_count_together(breaker: Breaker, other: Breaker) -> None:
    for one in (breaker, other):
        fail(one, MAX_IN_A_ROW // 2)

    assert not other.ask().granted


def test_what_goes_well_is_told_once_a_second_and_counts_for_all(
    breaker: Breaker, other: Breaker, monkeypatch: pytest.MonkeyPatch, store: redis.Redis
) -> None:
    for _ in range(10):
        breaker.succeeded(0.5, GRANTED)
    assert store.keys() == []

    refresh(monkeypatch, breaker)

    reading = breakers.read(PROVIDER, KEY)
    assert (reading.error_rate, reading.latency_seconds) == (0, 0.5)


def test_after_its_rest_one_call_may_probe(
    breaker: Breaker, other: Breaker, store: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail(breaker)
    refresh(monkeypatch, other)
    rest_is_over(store, breaker)

    first, second = breaker.ask(), other.ask()

    assert (first.granted, first.is_probe) == (True, True)
    assert not second.granted


def test_a_probe_that_goes_well_closes_it_for_all(
    breaker: Breaker, other: Breaker, store: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail(breaker)
    refresh(monkeypatch, other)
    rest_is_over(store, breaker)

    breaker.succeeded(0.1, breaker.ask())

    assert breaker.ask() == GRANTED
    assert other.ask().granted
    assert breakers.read(PROVIDER, KEY).state == "closed"


def test_a_probe_that_fails_opens_it_for_longer_up_to_half_a_minute(
    breaker: Breaker, store: redis.Redis
) -> None:
    fail(breaker)
    cooldowns = []
    for _ in range(5):
        cooldowns.append(round(open_seconds(store, breaker)))
        rest_is_over(store, breaker)
        breaker.failed(FAILING, breaker.ask())

    assert cooldowns == [5, 10, 20, 30, 30]


def test_what_was_under_way_when_it_opened_changes_nothing(
    breaker: Breaker, store: redis.Redis
) -> None:
    fail(breaker)
    before = open_seconds(store, breaker)

    fail(breaker, 5)
    breaker.succeeded(0.1, GRANTED)
    fail(breaker, 1)

    assert not breaker.ask().granted
    assert open_seconds(store, breaker) <= before


def test_a_probe_that_never_ends_does_not_keep_others_from_it(
    breaker: Breaker, store: redis.Redis
) -> None:
    fail(breaker)
    rest_is_over(store, breaker)
    assert breaker.ask().is_probe

    store.hset(breaker.name, "probe_until", "1")

    assert breaker.ask().is_probe


def test_a_redis_that_is_away_stops_nobody(
    breaker: Breaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail(breaker)

    def broken(*_: Any, **__: Any) -> Any:
        raise redis.ConnectionError("It is away.")

    monkeypatch.setattr(Script, "__call__", broken)

    assert breaker.ask().granted
    breaker.failed(FAILING, GRANTED)


def test_the_key_itself_is_nowhere_in_redis(breaker: Breaker, store: redis.Redis) -> None:
    fail(breaker)

    (name,) = store.keys()
    assert KEY.encode() not in name
    assert KEY.encode() not in b"".join(store.hgetall(name).values())


@pytest.mark.parametrize(
    ("open_until", "state"), [("0", "closed"), ("1", "half_open"), ("99999999999", "open")]
)
def test_a_reading_says_how_it_stands(
    breaker: Breaker, store: redis.Redis, open_until: str, state: str
) -> None:
    fail(breaker, 3)
    store.hset(breaker.name, "open_until", open_until)

    reading = breakers.read(PROVIDER, KEY)

    assert (reading.state, reading.failures_in_a_row, reading.error_rate) == (state, 3, 1)
