"""Is this process up, and is everything it stands on there?"""

import hmac
import time
from collections.abc import Callable
from typing import Any

import orjson
import redis
from flask import Blueprint, Response, request

import database
import storage
from config.redis import connection
from config.settings import settings
from jobs.maintenance import leases
from models.errors import InvalidKey, Unavailable
from routing import health

bp = Blueprint("health", __name__)

#: A deployment restarts its workers; this long without one is no reason to lose traffic.
WORKERLESS_SECONDS = 60

_SINCE_KEY = "likedo:workerless-since"


@bp.get("/healthz")
def is_up() -> Response:
    """Answer that this process is up, and nothing else: what a load balancer asks."""
    return _answer(200, {"status": "ok"})


@bp.get("/readyz")
def is_ready() -> Response:
    """Answer whether work would get done, and if not, what is missing."""
    status, said = _readiness()
    if request.args.get("verbose") == "1":
        _let_operators_in()
        said |= {"providers": _providers()}
    return _answer(status, said)


def _readiness() -> tuple[int, dict[str, object]]:
    missing = _missing()
    if missing:
        said = {"status": "unavailable", "missing": list(missing)}
        reasons = {name: reason for name, reason in missing.items() if reason}
        return 503, said | ({"reasons": reasons} if reasons else {})
    seconds = _workerless_seconds()
    if seconds is None:
        return 200, {"status": "ok"}
    status = "degraded" if seconds < WORKERLESS_SECONDS else "unavailable"
    return (200 if status == "degraded" else 503), {"status": status, "missing": ["worker"]}


def _let_operators_in() -> None:
    """Raise `InvalidKey` unless the admin token was sent, as a key is."""
    sent = request.headers.get("Authorization", "").removeprefix("Bearer ").strip()
    token = settings.admin_token
    if not token or not hmac.compare_digest(sent.encode(), token.encode()):
        raise InvalidKey(
            "Incorrect API key provided: the verbose form takes the ADMIN_TOKEN, as "
            "'Authorization: Bearer TOKEN'."
        )


def _providers() -> list[dict[str, Any]] | None:
    """Return how the providers are doing; None where Redis, which knows, does not answer."""
    try:
        return health.report()
    except redis.RedisError:
        return None


def _missing() -> dict[str, str | None]:
    """Return what does not answer, by name, and why, where that can be said without a secret."""
    found: dict[str, str | None] = {}
    for name, check in _CHECKS.items():
        try:
            check()
        except (redis.RedisError, Unavailable) as error:
            found[name] = _reason(error)
    if reason := storage.backend().problem():
        found["storage"] = reason
    return found


def _reason(error: Exception) -> str | None:
    if database.lacks_tables(error.__cause__):
        return "It lacks tables that this version needs: run `likedo db upgrade`."
    return None


_CHECKS: dict[str, Callable[[], object]] = {
    "redis": lambda: connection().ping(),
    "database": lambda: leases.live(),
}


def _workerless_seconds() -> float | None:
    """Return how long there has been no live worker; None where there is one."""
    if leases.live():
        connection().delete(_SINCE_KEY)
        return None
    connection().set(_SINCE_KEY, time.time(), nx=True, ex=3600)
    since = connection().get(_SINCE_KEY)
    return time.time() - float(since or time.time())


def _answer(status: int, content: dict[str, object]) -> Response:
    body = orjson.dumps(content)
    return Response(body, status=status, content_type="application/json")
