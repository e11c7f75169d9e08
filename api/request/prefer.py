"""What a client prefers: the header `Prefer` of RFC 7240."""

import math

from flask import request

#: Beyond this nobody means it.
MAX_CHARACTERS = 1000


def asynchronously() -> bool:
    """Tell whether the client asks to be answered with a job at once."""
    return "respond-async" in _preferences()


def wait_seconds() -> float | None:
    """Return how long the client asks to wait on its connection; None where it does not say."""
    try:
        seconds = float(_preferences().get("wait", ""))
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def _preferences() -> dict[str, str]:
    """Return the preferences by name; of one that is given twice, the first counts."""
    header = ",".join(request.headers.getlist("Prefer"))[:MAX_CHARACTERS]
    found: dict[str, str] = {}
    for preference in header.split(","):
        # What follows a semicolon are parameters, and none of ours has any.
        name, _, value = preference.partition(";")[0].partition("=")
        found.setdefault(name.strip().lower(), value.strip().strip('"'))
    return found
