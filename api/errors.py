"""Errors on the wire: the envelope, and the one place that makes a response of an error."""

import math
from typing import Any

import orjson
import structlog
from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException

from api.server.client import GONE_STATUS, Gone
from config.settings import settings
from jobs.streaming.messages import Source
from models.errors import (
    InternalError,
    InvalidRequest,
    LikeDoError,
    MethodNotAllowed,
    NotFound,
    RequestTooLarge,
    UnsupportedMediaType,
)

log = structlog.get_logger()

#: What some proxies replace the body of.
EDGE_UNSAFE = frozenset({502, 504})


def register(app: Flask) -> None:
    app.register_error_handler(LikeDoError, respond)
    app.register_error_handler(HTTPException, _respond_to_http)
    app.register_error_handler(Gone, lambda _: Response(status=GONE_STATUS))
    app.register_error_handler(Exception, _respond_to_bug)


def respond(error: LikeDoError) -> Response:
    """Return `error` as every caller gets it."""
    if error.status >= 500 and error.__cause__ is not None:
        # The caller is told what to do; what happened is for the operator, in one line: while
        # something is away, every call says so.
        facts = {"request": g.get("request_id"), "code": error.code}
        log.warning("request.failed", **facts, cause=repr(error.__cause__))
    response = Response(
        orjson.dumps({"error": error.as_json()}),
        status=_status(error),
        content_type="application/json",
    )
    response.headers["x-should-retry"] = "true" if error.retryable else "false"
    if error.retry_after is not None:
        response.headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
    for name, value in g.get("job_headers", {}).items():
        response.headers[name] = value
    return response


def _status(error: LikeDoError) -> int:
    return 503 if settings.edge_safe_errors and error.status in EDGE_UNSAFE else error.status


def _respond_to_http(error: HTTPException) -> Response:
    """Put what Flask itself refuses into the envelope."""
    if error.code == 404 and request.method == "OPTIONS":
        # A page asks first whether it may ask at all; that there is nothing it is told afterwards.
        return Response(status=204)
    response = respond(_translate(error))
    for name, value in error.get_headers():
        if name.lower() == "allow":
            response.headers[name] = value
    return response


def _translate(error: HTTPException) -> LikeDoError:
    match error.code:
        case 404:
            return NotFound("There is nothing at this path. The API is under /api/v1/ai.")
        case 405:
            return MethodNotAllowed("This path does not take this method; see Allow.")
        case 413:
            return RequestTooLarge("The body is too large.")
        case 415:
            return UnsupportedMediaType("Send JSON, as 'application/json'.")
        case code if code is not None and 400 <= code < 500:
            return InvalidRequest(f"The request cannot be read: {error.description}")
        case _:
            return InternalError("Something went wrong on our side.")


def _respond_to_bug(error: Exception) -> Response:
    log.error("request.broke", request=g.get("request_id"), exc_info=error)
    return respond(InternalError("Something went wrong on our side."))


def facts_of(source: Source) -> dict[str, Any]:
    """Return what headers say of who answered, as far as it is known."""
    return {
        "x-provider": source.provider,
        "x-upstream-model": source.upstream_model,
        "x-attempts": source.attempts,
    }


def headers_of(facts: dict[str, Any]) -> dict[str, str]:
    """Return the headers that are known: those whose value is not None, as text."""
    return {name: str(value) for name, value in facts.items() if value is not None}
