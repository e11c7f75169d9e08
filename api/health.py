"""Liveness and readiness: is this process up, and does everything it depends on answer?"""

import hmac
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson
import redis
from flask import Blueprint, Response, current_app, request
from gevent.lock import BoundedSemaphore

import database
import storage
from access import failures
from api.request import client_address
from config.redis import connection
from config.settings import settings
from jobs.maintenance import leases
from models.errors import InvalidKey, Unavailable
from routing import health

bp = Blueprint("health", __name__)

#: A deployment restarts its workers; for this long, having none is no reason to lose traffic.
WORKERLESS_SECONDS = 60

#: An answer holds for this long: anybody may ask, and each check writes to the storage.
CACHE_SECONDS = 3

_SINCE_KEY = "likedo:workerless-since"


@bp.get("/healthz")
def is_up() -> Response:
    """Report that this process is up, and nothing else, for load balancers."""
    return _answer(200, {"status": "ok"})


@bp.get("/readyz")
def is_ready() -> Response:
    """Report whether jobs would be run, and if not, what is missing."""
    status, report = _cached_readiness()
    if request.args.get("verbose") == "1":
        _require_admin_token()
        report |= {"providers": _providers()}
    return _answer(status, report)


@dataclass
class _Cache:
    """The readiness of a moment ago; one request at a time finds it out anew."""

    lock: BoundedSemaphore = field(default_factory=BoundedSemaphore)
    checked_at: float = float("-inf")
    readiness: tuple[int, dict[str, object]] = (503, {})


def _cached_readiness() -> tuple[int, dict[str, object]]:
    cache: _Cache = current_app.extensions.setdefault("readiness", _Cache())
    with cache.lock:
        if time.monotonic() - cache.checked_at > CACHE_SECONDS:
            cache.readiness = _readiness()
            cache.checked_at = time.monotonic()
        status, report = cache.readiness
    return status, dict(report)


def _readiness() -> tuple[int, dict[str, object]]:
    missing = _missing()
    if missing:
        report = {"status": "unavailable", "missing": list(missing)}
        reasons = {name: reason for name, reason in missing.items() if reason}
        return 503, report | ({"reasons": reasons} if reasons else {})
    seconds = _workerless_seconds()
    if seconds is None:
        return 200, {"status": "ok"}
    status = "degraded" if seconds < WORKERLESS_SECONDS else "unavailable"
    return (200 if status == "degraded" else 503), {"status": status, "missing": ["worker"]}


def _require_admin_token() -> None:
    """Raise `InvalidKey` unless the admin token was sent as a bearer token.

    Raises `RateLimitExceeded` if too many wrong ones came from the client's address.
    """
    sent = request.headers.get("Authorization", "").removeprefix("Bearer ").strip()
    token = settings.admin_token
    if not token or not hmac.compare_digest(sent.encode(), token.encode()):
        if sent:
            failures.check(client_address.find())
            failures.count(client_address.find())
        raise InvalidKey(
            "Incorrect API key provided: the verbose form takes the ADMIN_TOKEN, as "
            "'Authorization: Bearer TOKEN'."
        )


def _providers() -> list[dict[str, Any]] | None:
    """Return how the providers are doing; None if Redis, which knows, does not answer."""
    try:
        return health.report()
    except redis.RedisError:
        return None


def _missing() -> dict[str, str | None]:
    """Return the dependencies that do not answer, each with the reason if it holds no secret."""
    missing: dict[str, str | None] = {}
    for name, check in _CHECKS.items():
        try:
            check()
        except (redis.RedisError, Unavailable) as error:
            missing[name] = _reason(error)
    if reason := storage.backend().problem():
        missing["storage"] = reason
    return missing


def _reason(error: Exception) -> str | None:
    if database.lacks_tables(error.__cause__):
        return "It lacks tables that this version needs: run `likedo db upgrade`."
    return None


_CHECKS: dict[str, Callable[[], object]] = {
    "redis": lambda: connection().ping(),
    "database": lambda: leases.live(),
}


def _workerless_seconds() -> float | None:
    """Return for how long there has been no live worker; None if there is one."""
    if leases.live():
        connection().delete(_SINCE_KEY)
        return None
    connection().set(_SINCE_KEY, time.time(), nx=True, ex=3600)
    since = connection().get(_SINCE_KEY)
    return time.time() - float(since or time.time())


def _answer(status: int, content: dict[str, object]) -> Response:
    body = orjson.dumps(content)
    return Response(body, status=status, content_type="application/json")
