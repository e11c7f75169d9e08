"""What an OpenAI SDK says of itself in its headers: how long it waits, how often it has tried."""

from flask import request

#: The retries that are counted; what is beyond was not meant in earnest.
MAX_RETRIES = 10
#: An SDK that has tried fewer than so many times again will do so once more.
RETRIES = 2


def retry_count() -> int | None:
    """Return which retry the request is, 0 for a first try; None where no SDK says so."""
    said = request.headers.get("x-stainless-retry-count", "")
    return int(said) if said.isascii() and said.isdigit() and len(said) < 4 else None


def has_retries_left() -> bool:
    """Tell whether the client is an SDK that will try again by itself."""
    count = retry_count()
    return count is not None and count < RETRIES


def timeout_seconds() -> float | None:
    """Return how long the SDK waits for a read, where it says so."""
    for name in ("x-stainless-read-timeout", "x-stainless-timeout"):
        try:
            seconds = float(request.headers.get(name, ""))
        except ValueError:
            continue
        if seconds > 0:
            return seconds
    return None
