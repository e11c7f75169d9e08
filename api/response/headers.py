"""The headers every answer carries: request id, rate limit, CORS."""

import uuid

import structlog
from flask import Flask, Response, g, request

from access.rate_limit import Window
from config.settings import settings

log = structlog.get_logger()

#: What pages of other origins may read.
OURS = (
    "x-request-id, x-ratelimit-limit-requests, x-ratelimit-remaining-requests, "
    "x-ratelimit-reset-requests, x-job-id, x-provider, x-upstream-model, x-attempts, "
    "x-credits-consumed, x-credits-remaining, x-max-tokens-applied, x-should-retry, "
    "retry-after, retry-after-ms, location, preference-applied, idempotent-replayed"
)


def register(app: Flask) -> None:
    app.before_request(_name)
    app.after_request(_add)


def _name() -> None:
    g.request_id = f"req_{uuid.uuid4().hex}"


def _add(response: Response) -> Response:
    response.headers["x-request-id"] = g.request_id
    if window := g.get("window"):
        _add_rate_limit(response, window)
    if request.path.startswith(("/api/", "/v1/")):
        _add_cors(response)
    # The path alone: the query may hold a key.
    log.debug("request", method=request.method, path=request.path, status=response.status_code)
    return response


def _add_rate_limit(response: Response, window: Window) -> None:
    response.headers["x-ratelimit-limit-requests"] = str(window.limit)
    response.headers["x-ratelimit-remaining-requests"] = str(window.remaining)
    response.headers["x-ratelimit-reset-requests"] = duration(window.reset_seconds)


def duration(seconds: float) -> str:
    """Return a time as OpenAI writes it in headers: `0s`, `12m3s`, `1h0m5s`."""
    whole = max(0, round(seconds))
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    if hours:
        return f"{hours}h{minutes}m{rest}s"
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"


def _add_cors(response: Response) -> None:
    """Let pages of the allowed origins call the API. It takes no cookies, so `*` is safe."""
    origin = _allowed_origin()
    if origin != "*":
        response.vary.add("Origin")
    if origin is None:
        return
    response.headers["access-control-allow-origin"] = origin
    response.headers["access-control-expose-headers"] = OURS
    if request.method == "OPTIONS":
        # `*` would not cover Authorization, so what is asked for is what is allowed.
        asked = request.headers.get("Access-Control-Request-Headers", "*")
        response.headers["access-control-allow-headers"] = asked
        response.headers["access-control-allow-methods"] = "GET, POST, DELETE, OPTIONS"
        response.headers["access-control-max-age"] = "86400"


def _allowed_origin() -> str | None:
    allowed = [origin.strip() for origin in settings.cors_origins.split(",")]
    if "*" in allowed:
        return "*"
    origin = request.headers.get("Origin", "")
    return origin if origin in allowed else None
