"""The health of the providers, for operators. Keys are numbered and never shown."""

from dataclasses import asdict
from typing import Any

import providers
from config.settings import settings
from routing import breakers
from routing.breakers import Reading


def report() -> list[dict[str, Any]]:
    """Return the health of each provider, as all workers know it together.

    `state` is `off` without a key, `down` if no key is usable, `degraded` if some are not or a
    tenth of the calls fails, else `up`; `breaker` is that of the best key. `error_rate` and
    `latency_seconds` are of the calls of about the last 20 seconds, None if there were none.
    Raises `redis.RedisError` if that is unknown.
    """
    return [_provider(name) for name in providers.NAMES]


def _provider(name: str) -> dict[str, Any]:
    keys = [breakers.read(name, secret) for secret in settings.keys_of(name)]
    return {
        "name": name,
        "state": _state(keys),
        "breaker": min((key.state for key in keys), key=_ORDER.index, default=None),
        "error_rate": _worst(key.error_rate for key in keys),
        "latency_seconds": _worst(key.latency_seconds for key in keys),
        "base_url": settings.base_url_of(name),
        "keys": [{"number": number} | asdict(key) for number, key in enumerate(keys, 1)],
    }


_ORDER = ("closed", "half_open", "open")
#: A provider is degraded if this part of its calls fails.
DEGRADED_RATE = 0.1


def _state(keys: list[Reading]) -> str:
    if not keys:
        return "off"
    closed = [key for key in keys if key.state == "closed"]
    if not closed:
        return "down"
    failing = any((key.error_rate or 0) >= DEGRADED_RATE for key in keys)
    return "degraded" if failing or len(closed) < len(keys) else "up"


def _worst(figures: Any) -> float | None:
    known = [figure for figure in figures if figure is not None]
    return max(known, default=None)
