"""The sliding hour: exact at its edges, and true about when there is room again."""

from threading import Thread

import pytest
import redis

from access import rate_limit
from config.catalog.model import Plan
from config.settings import settings
from models.errors import RateLimitExceeded, Unavailable
from tests.store import forget

THREE = Plan(name="three", requests_per_hour=3, max_running=1)
FIVE = Plan(name="five", requests_per_hour=5, max_running=1)
WINDOW = "likedo:window:1"


def age(store: redis.Redis, *seconds_ago: float) -> None:
    """Make the window hold requests of these ages, the oldest first."""
    second, microsecond = store.time()
    now = second * 1_000_000 + microsecond
    for seconds in seconds_ago:
        store.lpush(WINDOW, str(int(now - seconds * 1_000_000)))


def test_as_many_as_the_limit_are_let_in_and_then_no_more(store: redis.Redis) -> None:
    remaining = [rate_limit.hit(1, THREE).remaining for _ in range(3)]

    with pytest.raises(RateLimitExceeded) as refused:
        rate_limit.hit(1, THREE)

    assert remaining == [2, 1, 0]
    assert refused.value.retry_after in (3600, 3601)
    assert store.llen(WINDOW) == 3


def test_looking_counts_nothing(store: redis.Redis) -> None:
    window = rate_limit.peek(1, THREE)

    assert (window.limit, window.remaining, window.reset_seconds) == (3, 3, 0)
    assert not store.exists(WINDOW)


def test_a_request_can_be_taken_back(store: redis.Redis) -> None:
    rate_limit.hit(1, THREE)
    counted = rate_limit.hit(1, THREE)

    assert rate_limit.take_back(1, THREE, counted.mark).remaining == 2
    # Once.
    assert rate_limit.take_back(1, THREE, counted.mark).remaining == 2


def test_a_request_leaves_the_window_an_hour_after_it_came(store: redis.Redis) -> None:
    age(store, 3600.01, 3599, 10)

    assert rate_limit.peek(1, THREE).remaining == 1
    assert rate_limit.hit(1, THREE).remaining == 0


def test_the_wait_is_until_the_oldest_in_the_way_leaves(store: redis.Redis) -> None:
    age(store, 3590.5, 100, 10)

    with pytest.raises(RateLimitExceeded) as refused:
        rate_limit.hit(1, THREE)

    assert refused.value.retry_after == 10


def test_a_smaller_plan_keeps_what_was_counted_on_the_larger(store: redis.Redis) -> None:
    age(store, 3000, 2000, 1000, 500, 100)

    assert rate_limit.peek(1, FIVE).remaining == 0
    with pytest.raises(RateLimitExceeded) as refused:
        rate_limit.hit(1, THREE)

    # Two more have to leave before there is room for a third.
    assert refused.value.retry_after == 2600


def test_many_at_once_get_exactly_the_limit(store: redis.Redis) -> None:
    let_in: list[int] = []

    def ask() -> None:
        try:
            let_in.append(rate_limit.hit(2, FIVE).remaining)
        except RateLimitExceeded:
            return

    threads = [Thread(target=ask) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(let_in) == [0, 1, 2, 3, 4]


def test_nobody_is_let_in_uncounted_where_redis_is_not_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(settings, "redis_url", "redis://127.0.0.1:1/0")
    forget()

    with pytest.raises(Unavailable):
        rate_limit.hit(1, THREE)

    forget()
