"""What a client prefers: the header `Prefer` of RFC 7240."""

import math
import re

from flask import request

_PREFERENCE = re.compile(r"\s*([A-Za-z-]+)\s*(?:=\s*\"?([^\";,]*)\"?)?[^,]*(?:,|$)")


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
    header = ", ".join(request.headers.getlist("Prefer"))
    found = [(name.lower(), value) for name, value in _PREFERENCE.findall(header)]
    return dict(reversed(found))
