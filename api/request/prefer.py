"""The header `Prefer` of RFC 7240: optional wishes of a client."""

import math

from flask import request

#: Longer headers are truncated.
MAX_CHARACTERS = 1000


def respond_async() -> bool:
    """Tell whether the client asks for a job at once, by `respond-async`."""
    return "respond-async" in _preferences()


def wait_seconds() -> float | None:
    """Return the seconds that the client will wait, by `wait`; None if it sent none."""
    try:
        seconds = float(_preferences().get("wait", ""))
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def _preferences() -> dict[str, str]:
    """Return the preferences by name; the first counts if one is repeated."""
    header = ",".join(request.headers.getlist("Prefer"))[:MAX_CHARACTERS]
    preferences: dict[str, str] = {}
    for preference in header.split(","):
        # Parameters follow a semicolon; none of ours has any.
        name, _, value = preference.partition(";")[0].partition("=")
        preferences.setdefault(name.strip().lower(), value.strip().strip('"'))
    return preferences
