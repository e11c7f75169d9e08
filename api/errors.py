"""Errors as responses: the envelope, and the one place that turns an error into JSON."""

import math

import orjson
import structlog
from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException

from api.server.client import CLIENT_CLOSED_REQUEST, ClientDisconnected
from config.settings import settings
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

#: Statuses whose body some proxies replace with their own.
EDGE_UNSAFE = frozenset({502, 504})


def register(app: Flask) -> None:
    """Answer every error that a view of `app` raises in the envelope."""
    app.register_error_handler(LikeDoError, respond)
    app.register_error_handler(HTTPException, _respond_to_http)
    app.register_error_handler(ClientDisconnected, lambda _: Response(status=CLIENT_CLOSED_REQUEST))
    app.register_error_handler(Exception, _respond_to_bug)


def respond(error: LikeDoError) -> Response:
    """Return the response for `error`."""
    if error.status >= 500 and error.__cause__ is not None:
        # The response tells the caller what to do; the cause is for the operator. One line: during
        # an outage every call logs it.
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
    """Return the response for an error that Flask itself raises."""
    if error.code == 404 and request.method == "OPTIONS":
        # CORS preflight for an unknown path: the request itself gets the 404.
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
    log.error("request.view_failed", request=g.get("request_id"), exc_info=error)
    return respond(InternalError("Something went wrong on our side."))
