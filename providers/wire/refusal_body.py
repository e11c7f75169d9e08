"""What a provider said in a refusal, whatever shape it has."""

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import orjson

from providers.wire import json, retry_after

MAX_MESSAGE_CHARACTERS = 500


@dataclass(frozen=True)
class ProviderError:
    """A refusal as the provider put it. What it left out is empty."""

    status: int
    message: str = ""
    #: `code`, `type` and other machine words, lower case, the most telling first.
    words: tuple[str, ...] = ()
    param: str | None = None
    moderated: bool = False
    retry_after: float | None = None


def read(status: int, headers: Mapping[str, str], content: bytes) -> ProviderError:
    """Read a refusal in any of the shapes that providers, and the proxies before them, use."""
    try:
        body = orjson.loads(content)
    except orjson.JSONDecodeError:
        message = _plain(content)
        waiting = _on_waiting(status, headers)
        return ProviderError(status, message, retry_after=retry_after.retry_after(waiting, message))
    return parsed(status, headers, body)


def parsed(status: int, headers: Mapping[str, str], body: Any) -> ProviderError:
    error = _error_object(body)
    metadata = json.as_object(error.get("metadata"))
    headers = _lower(json.as_object(metadata.get("headers"))) | dict(headers)
    inner = _inner(metadata)

    words = tuple(_words(metadata, inner, error))
    message = scrub(json.as_text(inner.get("message")) or _message(error))
    params = (inner.get("param"), error.get("param"), *_violated(error))
    param = scrub(next(filter(None, map(json.as_text, params)), "")) or None
    status = status or _status(error, words)
    return ProviderError(
        status,
        message,
        words,
        param,
        moderated="reasons" in metadata or "flagged_input" in metadata,
        retry_after=retry_after.retry_after(_on_waiting(status, headers), message, error),
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
    error = json.as_object(body).get("error", body)
    return {"message": error} if isinstance(error, str) else json.as_object(error)


def _message(error: Mapping[str, Any]) -> str:
    """Return what is said in `message`; else in `errors`, a list, or as RFC 9457 has it."""
    several = error.get("errors")
    listed = (
        "; ".join(filter(None, map(json.as_text, several))) if isinstance(several, list) else ""
    )
    said = (json.as_text(error.get("message")), listed, json.as_text(error.get("detail")).strip())
    return next(filter(None, said), json.as_text(error.get("title")))


def _inner(metadata: dict[str, Any]) -> dict[str, Any]:
    """Return the error of the provider behind OpenRouter, which passes its body on as text."""
    raw = json.as_text(metadata.get("raw"))
    with suppress(orjson.JSONDecodeError):
        return _error_object(orjson.loads(raw))
    return {"message": _plain(raw.encode("utf-8", "replace"))}


def _words(*objects: dict[str, Any]) -> Iterator[str]:
    for found in objects:
        reasons = (detail.get("reason") for detail in json.details(found))
        fields = ("error_type", "provider_code", "code", "type", "status", "name")
        for word in (*reasons, *map(found.get, fields)):
            if isinstance(word, str):
                yield word.lower()


def _violated(error: Mapping[str, Any]) -> Iterator[Any]:
    """Yield the fields that Google, or Replicate, finds at fault, in its own names."""
    invalid = error.get("invalid_fields")
    for field in invalid if isinstance(invalid, list) else ():
        yield json.as_text(json.as_object(field).get("field")).removeprefix("input.")
    for detail in json.details(error):
        violations = detail.get("fieldViolations")
        for violation in violations if isinstance(violations, list) else ():
            yield json.as_object(violation).get("field")


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


def _lower(headers: dict[str, Any]) -> dict[str, str]:
    """Return the `headers` that a header can be, with the names in lower case."""
    plain = {n: value for n, value in headers.items() if isinstance(value, str | int | float)}
    return {name.lower(): str(value) for name, value in plain.items()}
