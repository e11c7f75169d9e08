"""How long a provider wants us to wait."""

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import Any

from providers.wire import json

#: Longer waits are not waits: the provider's daily quota is used up.
MAX_RETRY_SECONDS = 24 * 3600.0
#: Until it is worth asking again where a day's quota is used up and nobody says when the day ends.
DAILY_QUOTA_SECONDS = 3600.0


def retry_after(
    headers: Mapping[str, str], message: str = "", error: Mapping[str, Any] | None = None
) -> float | None:
    """Return the seconds that a provider asks to wait, from the source to trust most.

    `headers` have lower-case names. None where nothing says how long.
    """
    for found in _delays(headers, message, error or {}):
        if found is not None:
            return min(max(found, 0.0), MAX_RETRY_SECONDS)
    return None


def _delays(
    headers: Mapping[str, str], message: str, error: Mapping[str, Any]
) -> Iterator[float | None]:
    yield _scaled(headers.get("retry-after-ms"), 1000)
    yield _seconds_or_date(headers.get("retry-after"))
    yield _number(json.as_object(error.get("availability")).get("retry_after"))
    yield _until_tomorrow(error)
    yield _google_delay(error)
    yield _exhausted(headers)
    yield _asked_in(message)
    yield _last_resort(headers)
    yield _until(headers.get("x-ratelimit-reset"))
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
        return parsedate_to_datetime(text).timestamp() - time.time()
    return None


def _until_tomorrow(error: Mapping[str, Any]) -> float | None:
    """Return an hour where a day's quota is used up: the delay beside it is that of a minute's."""
    for detail in json.details(error):
        violations = detail.get("violations")
        for violation in violations if isinstance(violations, list) else ():
            if "PerDay" in json.as_text(json.as_object(violation).get("quotaId")):
                return DAILY_QUOTA_SECONDS
    return None


def _google_delay(error: Mapping[str, Any]) -> float | None:
    for detail in json.details(error):
        if json.as_text(detail.get("@type")).endswith("RetryInfo"):
            return duration(json.as_text(detail.get("retryDelay")))
    return None


#: OpenAI's two limits. The one with nothing remaining is the one that was hit.
_LIMITS = ("requests", "tokens")


def _exhausted(headers: Mapping[str, str]) -> float | None:
    hit = [kind for kind in _LIMITS if headers.get(f"x-ratelimit-remaining-{kind}") == "0"]
    return _longest(headers, hit) or None


def _last_resort(headers: Mapping[str, str]) -> float | None:
    return _longest(headers, _LIMITS) or None


def _longest(headers: Mapping[str, str], kinds: Any) -> float | None:
    found = [duration(headers.get(f"x-ratelimit-reset-{kind}", "")) for kind in kinds]
    return max((seconds for seconds in found if seconds is not None), default=None)


_ASKED = re.compile(
    r"(?:try again|retry|available|resets?) (?:after |in )~?((?:[\d.]+ ?[a-z]+ ?)+)", re.IGNORECASE
)


def _asked_in(message: str) -> float | None:
    """Return the seconds in "Please try again in 1m20s" or "available in 1 second"."""
    asked = _ASKED.search(message)
    return duration(asked.group(1)) if asked else None


def _until(text: str | None) -> float | None:
    """Return the seconds until a Unix time in milliseconds, or in seconds."""
    moment = _number(text)
    if moment is None:
        return None
    return (moment / 1000 if moment > 1e11 else moment) - time.time()


_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_STEP = re.compile(r"(\d+(?:\.\d+)?) ?(ms|s|m|h|d)(?=[\d\s.,]|ec|in|our|ay|$)", re.IGNORECASE)


def duration(text: str) -> float | None:
    """Return the seconds of a Go duration such as `1h2m3.5s`; None where `text` is not one."""
    steps = _STEP.findall(text)
    if not steps:
        return None
    return sum(float(amount) * _UNITS[unit.lower()] for amount, unit in steps)
