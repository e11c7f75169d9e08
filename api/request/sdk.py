"""The headers of OpenAI's SDKs: the client's timeout, and its count of retries."""

from flask import request

IDEMPOTENCY_KEY = "Idempotency-Key"
#: Higher retry counts are ignored: no SDK means them.
MAX_RETRY_COUNT = 10
#: An SDK retries this often by default.
DEFAULT_RETRIES = 2


def retry_count() -> int | None:
    """Return the number of the retry, 0 for the first try; None if no SDK sent the request."""
    text = request.headers.get("x-stainless-retry-count", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 4 else None


def may_retry() -> bool:
    """Tell whether the request may join an earlier one: by its key, or as a counted retry."""
    return bool(request.headers.get(IDEMPOTENCY_KEY) or retry_count())


def has_retries_left() -> bool:
    """Tell whether the client is an SDK that will retry by itself."""
    count = retry_count()
    return count is not None and count < DEFAULT_RETRIES


def timeout_seconds() -> float | None:
    """Return the SDK's read timeout in seconds; None if it sent none."""
    for name in ("x-stainless-read-timeout", "x-stainless-timeout"):
        try:
            seconds = float(request.headers.get(name, ""))
        except ValueError:
            continue
        if seconds > 0:
            return seconds
    return None
