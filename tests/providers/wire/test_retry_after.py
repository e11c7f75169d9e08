"""How long a provider asks to wait."""

import time
from email.utils import formatdate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import ProviderBusy
from providers.wire import retry_after
from tests.providers.wire.refusals import refusal, said


def test_milliseconds_come_before_seconds() -> None:
    assert retry_after.retry_after({"retry-after-ms": "1500", "retry-after": "9"}) == 1.5


def test_retry_after_may_be_a_date() -> None:
    in_a_minute = formatdate(time.time() + 60, usegmt=True)

    delay = retry_after.retry_after({"retry-after": in_a_minute})

    assert delay is not None
    assert 50 < delay <= 60


@pytest.mark.parametrize(
    "date",
    [
        "Mon, 99999999999999999999 Jan 2020 00:00:00 GMT",
        "Mon, 01 Jan 99999999999 00:00:00 GMT",
        "Mon, 01 Jan 2020 00:00:00 +99999999999999",
    ],
)
def test_a_date_that_no_calendar_has_says_nothing(date: str) -> None:
    assert retry_after.retry_after({"retry-after": date}) is None


def test_a_date_in_no_zone_is_in_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    in_a_minute = formatdate(time.time() + 60)  # It ends in -0000.
    assert in_a_minute.endswith("-0000")
    monkeypatch.setenv("TZ", "XXX-5")
    time.tzset()

    try:
        delay = retry_after.retry_after({"retry-after": in_a_minute})
    finally:
        monkeypatch.undo()
        time.tzset()

    assert delay is not None
    assert 50 < delay <= 60


@pytest.mark.parametrize("unit", [1, 1000])
def test_a_reset_is_a_moment_or_seconds_from_now(unit: int) -> None:
    moment = str(int((time.time() + 30) * unit))

    until = retry_after.retry_after({"x-ratelimit-reset": moment, "ratelimit-reset": "7"})
    assert until is not None
    assert 20 < until <= 30
    for seconds in ("30", "0.5", "86400"):
        headers = {"x-ratelimit-reset": seconds, "ratelimit-reset": "7"}
        assert retry_after.retry_after(headers) == float(seconds)
    assert retry_after.retry_after({"x-ratelimit-reset": "soon", "ratelimit-reset": "7"}) == 7


def test_a_date_gone_by_is_now() -> None:
    assert retry_after.retry_after({"retry-after": formatdate(0, usegmt=True)}) == 0


def test_the_limit_with_nothing_remaining_is_the_one_to_wait_for() -> None:
    headers = {
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "8.64s",
        "x-ratelimit-remaining-tokens": "100",
        "x-ratelimit-reset-tokens": "6m0s",
    }

    assert retry_after.retry_after(headers, "Please try again in 20s.") == 8.64


def test_words_are_read_where_no_limit_is_used_up() -> None:
    headers = {"x-ratelimit-remaining-tokens": "100", "x-ratelimit-reset-tokens": "6m0s"}

    assert retry_after.retry_after(headers, "Please try again in 2.5s. Visit us.") == 2.5
    assert retry_after.retry_after(headers) == 360


@pytest.mark.parametrize(
    ("words", "seconds"),
    [
        ("Please try again in 20s. Visit https://example.com", 20),
        ("Please try again in 1m20s.", 80),
        ("Please retry in 48.9s", 48.9),
        ("Please try again in 120ms.", 0.12),
        ("Expected available in 1 second.", 1),
        ("Your rate limit resets in ~30s.", 30),
        ("Retry after 2 minutes", 120),
        ("Please retry shortly.", None),
    ],
)
def test_a_message_may_say_how_long(words: str, seconds: float | None) -> None:
    assert retry_after.retry_after({}, words) == seconds


def test_openrouter_gives_the_moment_in_milliseconds() -> None:
    moment = str(int((time.time() + 30) * 1000))
    body = said("Limit", code=429, metadata={"headers": {"X-RateLimit-Reset": moment}})

    for error in (
        refusal(429, body),
        refusal(429, said("Limit"), {"x-ratelimit-reset": moment}),
    ):
        assert error.retry_after is not None
        assert 20 < error.retry_after <= 30


def test_google_gives_it_in_the_details() -> None:
    detail = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.4s"}

    assert refusal(429, said(details=[{}, None, detail])).retry_after == 34.4


@pytest.mark.parametrize(
    ("quota", "seconds"), [("RequestsPerDayPerModel", 3600), ("RequestsPerMinute", 34.4), (5, 34.4)]
)
def test_a_days_quota_of_googles_is_left_alone_for_an_hour(quota: Any, seconds: float) -> None:
    failure = {"violations": [None, {"quotaId": quota}]}
    delay = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.4s"}

    assert refusal(429, said(details=[failure, delay])).retry_after == seconds


def test_a_busy_provider_that_says_nothing_is_left_alone_for_a_while() -> None:
    assert refusal(429, said()).retry_after == ProviderBusy.default_retry_after


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("12ms", 0.012), ("0s", 0), ("8.64s", 8.64), ("1m30.5s", 90.5), ("6m0s", 360),
     ("1h2m3s", 3723), ("", None), ("soon", None)],
)  # fmt: skip
def test_durations_are_gos(text: str, seconds: float | None) -> None:
    assert retry_after.duration(text) == pytest.approx(seconds)


@given(st.integers(0, 99), st.integers(0, 59), st.integers(0, 59))
def test_every_duration_is_read(hours: int, minutes: int, seconds: int) -> None:
    assert (
        retry_after.duration(f"{hours}h{minutes}m{seconds}s")
        == hours * 3600 + minutes * 60 + seconds
    )


@given(st.dictionaries(
    st.sampled_from(["retry-after", "retry-after-ms", "x-ratelimit-reset", "ratelimit-reset",
                     "x-ratelimit-reset-tokens"]), st.text()), st.text())  # fmt: skip
def test_a_delay_is_never_absurd(headers: dict[str, str], message: str) -> None:
    delay = retry_after.retry_after(headers, message)

    assert delay is None or 0 <= delay <= retry_after.MAX_RETRY_SECONDS
