"""What a provider's refusal means: its status first, its words second.

The callers of a refusal are told in our words what is the operator's matter, and in the vendor's
what is theirs, with anything that looks like a key or an account taken out.
"""

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import orjson

from models import errors
from providers.http import Response

MAX_MESSAGE_CHARACTERS = 500
#: Longer waits are not waits: the provider's daily quota is used up.
MAX_RETRY_SECONDS = 24 * 3600.0
#: Until it is worth asking again where a day's quota is used up and nobody says when the day ends.
DAILY_QUOTA_SECONDS = 3600.0


@dataclass(frozen=True)
class Said:
    """A refusal as the provider put it. What it left out is empty."""

    status: int
    message: str = ""
    #: `code`, `type` and other machine words, lower case, the most telling first.
    words: tuple[str, ...] = ()
    param: str | None = None
    moderated: bool = False
    retry_after: float | None = None


def refusal(provider: str, response: Response) -> errors.LikeDoError:
    """Return the error that a `response` with an error status stands for."""
    return as_ours(provider, read(response.status, response.headers, response.content))


def refusal_within(provider: str, error: Any, headers: Mapping[str, str]) -> errors.LikeDoError:
    """Return the error that the `error` object inside an answer of status 200 stands for."""
    said = _said(0, headers, {"error": error})
    return as_ours(provider, said)


def as_ours(provider: str, said: Said) -> errors.LikeDoError:
    """Return the most precise error of ours for what `provider` said."""
    error = _most_precise(provider, said)
    error.upstream_status, error.stated_delay = said.status, said.retry_after
    error.nothing_ran = 400 <= said.status < 500 and said.status not in _UNCLEAR
    return error


def _most_precise(provider: str, said: Said) -> errors.LikeDoError:
    if _any(said, _OUT_OF_FUNDS | _WRONG_KEY):
        return _refused_us(provider, said)
    if "model_not_found" in said.words or _NO_MODEL.search(said.message):
        return _gone(provider)
    match said.status:
        case 400 | 413 | 422:
            return _invalid(provider, said)
        case 403 if said.moderated or _any(said, _MODERATED):
            return _blocked(provider, said)
        case 401 | 402 | 403:
            return _refused_us(provider, said)
        case 404 if _NO_SUCH_ABILITY.search(said.message):
            return _unsupported(provider, said)
        case 404 | 410:
            return _gone(provider)
        case 429 if _TOO_LARGE.search(said.message):
            return errors.ContextLengthExceeded(_told(provider, said), param="messages")
        case 429:
            return errors.ProviderBusy(f"{provider} is busy.", retry_after=said.retry_after)
        case 504:
            return errors.ProviderTimeout(f"{provider} did not answer in time (HTTP 504).")
        case status:
            return errors.ProviderFailed(f"{provider} failed (HTTP {status}).")


def _invalid(provider: str, said: Said) -> errors.LikeDoError:
    if _any(said, {"context_length_exceeded"}) or _TOO_LONG.search(said.message):
        return errors.ContextLengthExceeded(_told(provider, said), param="messages")
    if _any(said, _UNSUPPORTED) or _UNKNOWN_ARGUMENT.search(said.message):
        return _unsupported(provider, said)
    if said.moderated or _any(said, _MODERATED) or _BLOCKED.search(said.message):
        return _blocked(provider, said)
    return errors.InvalidRequest(_told(provider, said), param=said.param)


def _unsupported(provider: str, said: Said) -> errors.LikeDoError:
    unknown = _UNKNOWN_ARGUMENT.search(said.message)
    param = said.param or (unknown.group(1) if unknown else None)
    return errors.UnsupportedParameter(_told(provider, said), param=param)


def _blocked(provider: str, said: Said) -> errors.LikeDoError:
    return errors.ContentPolicyViolation(_told(provider, said), param=said.param)


def _refused_us(provider: str, said: Said) -> errors.LikeDoError:
    return errors.ProviderRefusedUs(
        f"{provider} refuses this service's key, funds or region (HTTP {said.status or 200}). "
        "Its operator has to see to that."
    )


def _gone(provider: str) -> errors.LikeDoError:
    return errors.ModelGone(f"{provider} does not have this model, or no longer.")


def _told(provider: str, said: Said) -> str:
    return said.message or f"{provider} takes this request for invalid and does not say why."


def _any(said: Said, words: set[str]) -> bool:
    return not words.isdisjoint(said.words)


#: Of the refusals, those that may come after the work was begun: a time-out, a client that left.
_UNCLEAR = {408, 499}

_OUT_OF_FUNDS = {
    "insufficient_quota",
    "billing_hard_limit_reached",
    "billing_not_active",
    "insufficient_balance",
    "payment_required",
}
#: `failed_precondition` is Google's word for a region, or a project's billing, that it refuses.
_WRONG_KEY = {"invalid_api_key", "account_deactivated", "api_key_invalid", "failed_precondition"}
_MODERATED = {
    "content_policy_violation",
    "moderation_blocked",
    "image_generation_user_error",
    "content_filter",
    "content_moderation",
    # Stability AI's, of a prompt with words that it does not take.
    "invalid_prompts",
    "responsibleaipolicyviolation",
}
_UNSUPPORTED = {"unsupported_parameter", "unsupported_value", "unknown_parameter"}

_TOO_LONG = re.compile(
    r"maximum context length|context (window|length|limit)|prompt is too long|input is too long"
    r"|too many (input )?tokens|token count.{0,40}exceeds",
    re.IGNORECASE,
)
_TOO_LARGE = re.compile(r"request too large", re.IGNORECASE)
_BLOCKED = re.compile(
    r"content (management )?policy|safety system|flagged by|moderation", re.IGNORECASE
)
#: The last is Replicate's, whose models have versions.
_NO_MODEL = re.compile(
    r"not a valid model( id)?\b|^model not exist|^the specified version does not exist",
    re.IGNORECASE,
)
_NO_SUCH_ABILITY = re.compile(r"no endpoints found that (support|can handle)", re.IGNORECASE)
_UNKNOWN_ARGUMENT = re.compile(r"unrecognized request arguments? supplied: (\w+)", re.IGNORECASE)


# ---- Reading what was said -----------------------------------------------------------------------


def read(status: int, headers: Mapping[str, str], content: bytes) -> Said:
    """Read a refusal in any of the shapes that providers, and the proxies before them, use."""
    try:
        body = orjson.loads(content)
    except orjson.JSONDecodeError:
        message = _plain(content)
        waiting = _on_waiting(status, headers)
        return Said(status, message, retry_after=retry_after(waiting, message))
    return _said(status, headers, body)


def _said(status: int, headers: Mapping[str, str], body: Any) -> Said:
    error = _error_object(body)
    metadata = _object(error.get("metadata"))
    headers = _lower(_object(metadata.get("headers"))) | dict(headers)
    inner = _inner(metadata)

    words = tuple(_words(metadata, inner, error))
    message = scrub(_text(inner.get("message")) or _message(error))
    params = (inner.get("param"), error.get("param"), *_violated(error))
    param = scrub(next(filter(None, map(_text, params)), "")) or None
    status = status or _status(error, words)
    return Said(
        status,
        message,
        words,
        param,
        moderated="reasons" in metadata or "flagged_input" in metadata,
        retry_after=retry_after(_on_waiting(status, headers), message, error),
    )


def _on_waiting(status: int, headers: Mapping[str, str]) -> Mapping[str, str]:
    """Return the headers that say how long to wait: of limits only those that were hit speak."""
    if status == 429:
        return headers
    return {name: value for name, value in headers.items() if name.startswith("retry-after")}


def _error_object(body: Any) -> dict[str, Any]:
    """Return the error in `{"error": {…}}`, `[{"error": {…}}]`, `{"error": "…"}` or `{…}`."""
    if isinstance(body, list):
        body = body[0] if body else {}
    error = _object(body).get("error", body)
    return {"message": error} if isinstance(error, str) else _object(error)


def _message(error: Mapping[str, Any]) -> str:
    """Return what is said in `message`; else in `errors`, a list, or as RFC 9457 has it."""
    several = error.get("errors")
    listed = "; ".join(filter(None, map(_text, several))) if isinstance(several, list) else ""
    said = (_text(error.get("message")), listed, _text(error.get("detail")).strip())
    return next(filter(None, said), _text(error.get("title")))


def _inner(metadata: dict[str, Any]) -> dict[str, Any]:
    """Return the error of the provider behind OpenRouter, which passes its body on as text."""
    raw = _text(metadata.get("raw"))
    with suppress(orjson.JSONDecodeError):
        return _error_object(orjson.loads(raw))
    return {"message": _plain(raw.encode("utf-8", "replace"))}


def _words(*objects: dict[str, Any]) -> Iterator[str]:
    for found in objects:
        reasons = (detail.get("reason") for detail in _details(found))
        fields = ("error_type", "provider_code", "code", "type", "status", "name")
        for word in (*reasons, *map(found.get, fields)):
            if isinstance(word, str):
                yield word.lower()


def _details(error: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return Google's details of an error: each is an object with an `@type`."""
    details = error.get("details")
    return [_object(detail) for detail in details] if isinstance(details, list) else []


def _violated(error: Mapping[str, Any]) -> Iterator[Any]:
    """Yield the fields that Google, or Replicate, finds at fault, in its own names."""
    invalid = error.get("invalid_fields")
    for field in invalid if isinstance(invalid, list) else ():
        yield _text(_object(field).get("field")).removeprefix("input.")
    for detail in _details(error):
        violations = detail.get("fieldViolations")
        for violation in violations if isinstance(violations, list) else ():
            yield _object(violation).get("field")


#: Statuses of the words that come where no status does.
_STATUSES = {
    "invalid_request_error": 400,
    "context_length_exceeded": 400,
    "authentication_error": 401,
    "payment_required": 402,
    "rate_limit_exceeded": 429,
    "timeout": 504,
    "invalid_argument": 400,
    "unauthenticated": 401,
    "permission_denied": 403,
    "not_found": 404,
    "resource_exhausted": 429,
    "deadline_exceeded": 504,
}


def _status(error: dict[str, Any], words: tuple[str, ...]) -> int:
    code = error.get("code")
    if isinstance(code, int) and 400 <= code < 600:
        return code
    return next((_STATUSES[word] for word in words if word in _STATUSES), 502)


def _plain(content: bytes) -> str:
    """Return a body that is not JSON as a message; a page of HTML says nothing to a caller."""
    text = content[: 4 * MAX_MESSAGE_CHARACTERS].decode("utf-8", "replace").strip()
    return "" if text.startswith("<") else scrub(text)


#: Keys of every vendor we know, also where partly starred out, and ids of the operator's account.
_SECRET = re.compile(
    r"(?i:bearer)\s+[\w.*~+/=-]+"
    r"|\b(?:sk|pk|rk|r8|key|xai|gsk|hf|whsec)[-_][\w.*-]{6,}"
    r"|\bAIza[\w-]{10,}"
    r"|[\w-]*\*{3,}[\w*-]*"
    r"|\b(?:org|proj|user|acct|req)[-_](?=[\w-]*\d)[\w-]{8,}"
)


def scrub(message: str) -> str:
    """Return `message` without keys and account ids, shortened."""
    clean = _SECRET.sub("[redacted]", message[: 4 * MAX_MESSAGE_CHARACTERS])
    if len(clean) <= MAX_MESSAGE_CHARACTERS:
        return clean
    return clean[: MAX_MESSAGE_CHARACTERS - 1] + "…"


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _lower(headers: dict[str, Any]) -> dict[str, str]:
    """Return the `headers` that a header can be, with the names in lower case."""
    plain = {n: value for n, value in headers.items() if isinstance(value, str | int | float)}
    return {name.lower(): str(value) for name, value in plain.items()}


# ---- How long to wait ----------------------------------------------------------------------------


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
    yield _number(_object(error.get("availability")).get("retry_after"))
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
    for detail in _details(error):
        violations = detail.get("violations")
        for violation in violations if isinstance(violations, list) else ():
            if "PerDay" in _text(_object(violation).get("quotaId")):
                return DAILY_QUOTA_SECONDS
    return None


def _google_delay(error: Mapping[str, Any]) -> float | None:
    for detail in _details(error):
        if _text(detail.get("@type")).endswith("RetryInfo"):
            return duration(_text(detail.get("retryDelay")))
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
