"""Response headers: those that every response carries, and those that tell of a job's provider."""

import uuid
from typing import Any

import structlog
from flask import Flask, Response, g, request

from access.rate_limit import Window
from config.settings import settings
from jobs.streaming.messages import Source

log = structlog.get_logger()

#: What every response says to browsers and caches. A view may set others of these.
PRIVACY = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}

#: The headers that pages of other origins may read.
EXPOSED = (
    "x-request-id, x-ratelimit-limit-requests, x-ratelimit-remaining-requests, "
    "x-ratelimit-reset-requests, x-job-id, x-provider, x-upstream-model, x-attempts, "
    "x-credits-consumed, x-credits-remaining, x-max-tokens-applied, x-should-retry, "
    "retry-after, retry-after-ms, location, preference-applied, idempotent-replayed"
)


def register(app: Flask) -> None:
    """Give every response of `app` a request id, its rate limit, privacy and CORS headers."""
    app.before_request(_assign_request_id)
    app.after_request(_add)


def _assign_request_id() -> None:
    g.request_id = f"req_{uuid.uuid4().hex}"


def _add(response: Response) -> Response:
    response.headers["x-request-id"] = g.request_id
    if window := g.get("rate_window"):
        _add_rate_limit(response, window)
    if request.path.startswith(("/api/", "/v1/")):
        _add_cors(response)
    _add_privacy(response)
    # The path alone: the query may hold a key.
    log.debug("request", method=request.method, path=request.path, status=response.status_code)
    return response


def _add_privacy(response: Response) -> None:
    for name, value in PRIVACY.items():
        # Images may be cached by anybody, and their absence for a while.
        if name != "Cache-Control" or not request.path.startswith("/media/"):
            response.headers.setdefault(name, value)


def _add_rate_limit(response: Response, window: Window) -> None:
    response.headers["x-ratelimit-limit-requests"] = str(window.limit)
    response.headers["x-ratelimit-remaining-requests"] = str(window.remaining)
    response.headers["x-ratelimit-reset-requests"] = duration(window.reset_seconds)


def duration(seconds: float) -> str:
    """Return a duration as OpenAI writes it in headers: `0s`, `12m3s`, `1h0m5s`."""
    total = max(0, round(seconds))
    hours, minutes, rest = total // 3600, total // 60 % 60, total % 60
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
    response.headers["access-control-expose-headers"] = EXPOSED
    if request.method == "OPTIONS":
        # `*` would not cover Authorization, so the requested headers are echoed.
        requested = request.headers.get("Access-Control-Request-Headers", "*")
        response.headers["access-control-allow-headers"] = requested
        response.headers["access-control-allow-methods"] = "GET, POST, DELETE, OPTIONS"
        response.headers["access-control-max-age"] = "86400"


def _allowed_origin() -> str | None:
    allowed = [origin.strip() for origin in settings.cors_origins.split(",")]
    if "*" in allowed:
        return "*"
    origin = request.headers.get("Origin", "")
    return origin if origin in allowed else None


def of_source(source: Source) -> dict[str, str]:
    """Return the headers that name the provider and model of an answer, as far as known."""
    return known(
        {
            "x-provider": source.provider,
            "x-upstream-model": source.upstream_model,
            "x-attempts": source.attempts,
        }
    )


def known(values: dict[str, Any]) -> dict[str, str]:
    """Return the headers whose value is not None, as text."""
    return {name: str(value) for name, value in values.items() if value is not None}
