"""Reading how long a provider asks us to wait, from headers, error objects and messages."""

import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

from providers.wire import json

#: Longer delays are cut to a day, within which even a daily quota is renewed.
MAX_RETRY_SECONDS = 24 * 3600.0
#: The delay if a daily quota is used up, since the provider does not say when its day ends.
DAILY_QUOTA_SECONDS = 3600.0


def retry_after(
    headers: Mapping[str, str], message: str = "", error: Mapping[str, Any] | None = None
) -> float | None:
    """Return the seconds that a provider asks to wait, from the most reliable source; or None.

    `headers` have lower-case names.
    """
    for delay in _delays(headers, message, error or {}):
        if delay is not None:
            return min(max(delay, 0.0), MAX_RETRY_SECONDS)
    return None


def _delays(
    headers: Mapping[str, str], message: str, error: Mapping[str, Any]
) -> Iterator[float | None]:
    yield _scaled(headers.get("retry-after-ms"), 1000)
    yield _seconds_or_date(headers.get("retry-after"))
    yield _number(json.as_object(error.get("availability")).get("retry_after"))
    yield _daily_quota_delay(error)
    yield _google_delay(error)
    yield _delay_of_exhausted_limits(headers)
    yield _delay_in_text(message)
    yield _delay_of_any_limit(headers)
    yield _seconds_until(headers.get("x-ratelimit-reset"))
    yield _number(headers.get("ratelimit-reset"))


def _number(text: Any) -> float | None:
    with suppress(TypeError, ValueError):
        number = float(text)
        return number if abs(number) < float("inf") else None
    return None


def _scaled(text: Any, divisor: float) -> float | None:
    number = _number(text)
    return None if number is None else number / divisor


def _seconds_or_date(text: str | None) -> float | None:
    if text is None:
        return None
    seconds = _number(text)
    if seconds is not None:
        return seconds
    with suppress(ValueError, OverflowError):
        date = parsedate_to_datetime(text)
        # A zone of -0000 says that the time is UTC, and yields a date without a zone.
        date = date if date.tzinfo else date.replace(tzinfo=UTC)
        return date.timestamp() - time.time()
    return None


def _daily_quota_delay(error: Mapping[str, Any]) -> float | None:
    """Return an hour if Google says that a daily quota is used up.

    The `retryDelay` beside it is that of the quota per minute.
    """
    for detail in json.details(error):
        for violation in json.as_list(detail.get("violations")):
            if "PerDay" in json.as_text(json.as_object(violation).get("quotaId")):
                return DAILY_QUOTA_SECONDS
    return None


def _google_delay(error: Mapping[str, Any]) -> float | None:
    for detail in json.details(error):
        if json.as_text(detail.get("@type")).endswith("RetryInfo"):
            return duration(json.as_text(detail.get("retryDelay")))
    return None


#: OpenAI's two rate limits. The one with nothing remaining is the one that was hit.
_LIMITS = ("requests", "tokens")


def _delay_of_exhausted_limits(headers: Mapping[str, str]) -> float | None:
    exhausted = [limit for limit in _LIMITS if headers.get(f"x-ratelimit-remaining-{limit}") == "0"]
    return _longest_reset(headers, exhausted) or None


def _delay_of_any_limit(headers: Mapping[str, str]) -> float | None:
    return _longest_reset(headers, _LIMITS) or None


def _longest_reset(headers: Mapping[str, str], limits: Iterable[str]) -> float | None:
    delays = [duration(headers.get(f"x-ratelimit-reset-{limit}", "")) for limit in limits]
    return max((seconds for seconds in delays if seconds is not None), default=None)


_DELAY_TEXT = re.compile(
    r"(?:try again|retry|available|resets?) (?:after |in )~?((?:[\d.]+ ?[a-z]+ ?)+)", re.IGNORECASE
)


def _delay_in_text(message: str) -> float | None:
    """Return the seconds in "Please try again in 1m20s" or "available in 1 second"."""
    match = _DELAY_TEXT.search(message)
    return duration(match.group(1)) if match else None


#: Smaller numbers are seconds from now: as a Unix time this one is in 2001.
_FIRST_UNIX_TIME = 1e9


def _seconds_until(text: str | None) -> float | None:
    """Return the seconds until a moment: a Unix time in (milli)seconds, or seconds from now."""
    number = _number(text)
    if number is None or number < _FIRST_UNIX_TIME:
        return number
    return (number / 1000 if number > 1e11 else number) - time.time()


_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_STEP = re.compile(r"(\d+(?:\.\d+)?) ?(ms|s|m|h|d)(?=[\d\s.,]|ec|in|our|ay|$)", re.IGNORECASE)


def duration(text: str) -> float | None:
    """Return the seconds of a Go duration such as `1h2m3.5s`, or None if `text` is not one."""
    steps = _STEP.findall(text)
    if not steps:
        return None
    return sum(float(amount) * _UNITS[unit.lower()] for amount, unit in steps)
