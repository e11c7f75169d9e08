"""Reading a provider's refusal, in any of the shapes that vendors and proxies use."""

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from models import bounded_json
from providers.wire import json, retry_after

MAX_MESSAGE_CHARACTERS = 500


@dataclass(frozen=True)
class ProviderError:
    """A refusal in the provider's own terms. What the provider left out is empty."""

    #: The HTTP status, or the one that the error object implies.
    status: int
    message: str = ""
    #: `code`, `type` and other machine-readable words in lower case, the most precise first.
    words: tuple[str, ...] = ()
    #: The parameter at fault, in the provider's own name.
    param: str | None = None
    moderated: bool = False
    #: Seconds.
    retry_after: float | None = None


def read(status: int, headers: Mapping[str, str], content: bytes) -> ProviderError:
    """Read a refusal from its body, which may be JSON of any shape, a text or a page."""
    try:
        body = bounded_json.loads(content, bounded_json.OF_REFUSAL)
    except ValueError:  # It is no JSON, or too complex to be a refusal.
        message = _plain_text(content)
        delay = retry_after.retry_after(_delay_headers(status, headers), message)
        return ProviderError(status, message, retry_after=delay)
    return parsed(status, headers, body)


def parsed(status: int, headers: Mapping[str, str], body: Any) -> ProviderError:
    """Read a refusal from decoded JSON. With a `status` of 0, the body says which it is."""
    error = _error_object(body)
    metadata = json.as_object(error.get("metadata"))
    headers = _as_headers(json.as_object(metadata.get("headers"))) | dict(headers)
    inner = _inner_error(metadata)

    words = tuple(_words(metadata, inner, error))
    message = scrub(json.as_text(inner.get("message")) or _message(error))
    params = (inner.get("param"), error.get("param"), *_invalid_fields(error))
    param = scrub(next(filter(None, map(json.as_text, params)), "")) or None
    status = status or _status(error, words)
    return ProviderError(
        status,
        message,
        words,
        param,
        moderated="reasons" in metadata or "flagged_input" in metadata,
        retry_after=retry_after.retry_after(_delay_headers(status, headers), message, error),
    )


def _delay_headers(status: int, headers: Mapping[str, str]) -> Mapping[str, str]:
    """Return the headers to read a delay from; those of rate limits count only for a 429."""
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
    """Return `message`, the list `errors` joined, or RFC 9457's `detail` or `title`."""
    message, detail = json.as_text(error.get("message")), json.as_text(error.get("detail")).strip()
    listed = "; ".join(filter(None, map(json.as_text, json.as_list(error.get("errors")))))
    return next(filter(None, (message, listed, detail)), json.as_text(error.get("title")))


def _inner_error(metadata: dict[str, Any]) -> dict[str, Any]:
    """Return the error of the vendor behind OpenRouter, which passes its body on as text."""
    raw = json.as_text(metadata.get("raw"))
    content = raw.encode("utf-8", "replace")
    with suppress(ValueError):  # It is no JSON, or too complex to be a refusal.
        return _error_object(bounded_json.loads(content, bounded_json.OF_REFUSAL))
    return {"message": _plain_text(content)}


def _words(*objects: dict[str, Any]) -> Iterator[str]:
    for item in objects:
        reasons = (detail.get("reason") for detail in json.details(item))
        fields = ("error_type", "provider_code", "code", "type", "status", "name")
        for word in (*reasons, *map(item.get, fields)):
            if isinstance(word, str):
                yield word.lower()


def _invalid_fields(error: Mapping[str, Any]) -> Iterator[Any]:
    """Yield the names of the fields that Replicate or Google reports as invalid."""
    for field in json.as_list(error.get("invalid_fields")):
        yield json.as_text(json.as_object(field).get("field")).removeprefix("input.")
    for detail in json.details(error):
        for violation in json.as_list(detail.get("fieldViolations")):
            yield json.as_object(violation).get("field")


#: The status that a word implies if there is no HTTP status.
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


def _plain_text(content: bytes) -> str:
    """Return a body that is not JSON as a message; empty for an HTML page."""
    text = content[: 4 * MAX_MESSAGE_CHARACTERS].decode("utf-8", "replace").strip()
    return "" if text.startswith("<") else scrub(text)


#: Keys of all known vendors, even if partly replaced by stars, and ids of the operator's accounts.
_SECRET = re.compile(
    r"(?i:bearer)\s+[\w.*~+/=-]+"
    r"|\b(?:sk|pk|rk|r8|key|xai|gsk|hf|whsec)[-_][\w.*-]{6,}"
    r"|\bAIza[\w-]{10,}"
    r"|[\w-]*\*{3,}[\w*-]*"
    r"|\b(?:org|proj|user|acct|req)[-_](?=[\w-]*\d)[\w-]{8,}"
)


def scrub(message: str) -> str:
    """Return `message` without keys and account ids, cut to `MAX_MESSAGE_CHARACTERS`."""
    clean = _SECRET.sub("[redacted]", message[: 4 * MAX_MESSAGE_CHARACTERS])
    if len(clean) <= MAX_MESSAGE_CHARACTERS:
        return clean
    return clean[: MAX_MESSAGE_CHARACTERS - 1] + "…"


def _as_headers(raw: dict[str, Any]) -> dict[str, str]:
    """Return the entries that can be headers, with names in lower case."""
    plain = {name: value for name, value in raw.items() if isinstance(value, str | int | float)}
    return {name.lower(): str(value) for name, value in plain.items()}
