"""Admitting requests, with checks in the contract's order: size, key, body, rate limit, JSON."""

import contextlib
from functools import lru_cache
from typing import Any

import gevent
import orjson
import structlog
from flask import Response, g, request
from gevent.lock import BoundedSemaphore
from gunicorn.http.errors import ParseException

from access import keys, rate_limit
from access.keys import Caller
from access.rate_limit import Window
from api.request import upload
from config.catalog.load import catalog
from config.catalog.model import Plan
from config.settings import settings
from models import bounded_json
from models.errors import (
    InvalidJSON,
    InvalidKey,
    InvalidRequest,
    RateLimitExceeded,
    RequestTooLarge,
    Unavailable,
    UnsupportedMediaType,
)

log = structlog.get_logger()

#: Calls of a burst that are admitted at a time. If all were, each would wait for the slowest
#: before the first is enqueued, and they would stay in step from there on.
MAX_ADMISSIONS = 16

admission_slots = BoundedSemaphore(MAX_ADMISSIONS)

#: Some editors begin a file with it; RFC 8259 lets a parser ignore it.
BYTE_ORDER_MARK = b"\xef\xbb\xbf"

JSON_TYPES = ("application/json", "text/json")


def admit() -> None:
    """Identify the caller of a request; raise `RequestTooLarge` or `InvalidKey`."""
    if request.method == "OPTIONS":
        return
    check_declared_size()
    g.caller = keys.identify(_key())
    if request.method != "POST":
        peek()


def peek() -> None:
    """Report the rate limit in the response without counting the request.

    An account without a plan has no limit to report; what does not count is answered all the same.
    """
    if plan := catalog.plans.get(caller().plan):
        g.rate_window = rate_limit.peek(caller().account_id, plan)


def caller() -> Caller:
    """Return the caller of the request being answered."""
    caller: Caller = g.caller
    return caller


def plan() -> Plan:
    """Return the caller's plan; raise `Unavailable` if the catalogue has dropped it."""
    plan = catalog.plans.get(caller().plan)
    if plan is None:
        _report_unknown_plan(caller().account_id, caller().plan)
        raise Unavailable(
            f"This service has no plan '{caller().plan}' any more, which your account is on. Its "
            "operator has to give it another one."
        )
    return plan


@lru_cache(maxsize=1000)
def _report_unknown_plan(account_id: int, name: str) -> None:
    """Log it once in each process, not once for each refused call."""
    log.error(
        "account.plan_unknown",
        account=account_id,
        plan=name,
        hint=f"likedo accounts set-plan NAME PLAN, or put [plans.{name}] back into the catalogue",
    )


def check_declared_size() -> None:
    """Raise `RequestTooLarge` if the declared size is; files may be larger than other bodies."""
    if request.path.endswith("/files"):
        upload.check_declared_size()
    elif (request.content_length or 0) > settings.max_body_bytes:
        raise _too_large()


def _too_large() -> RequestTooLarge:
    return RequestTooLarge(
        f"The body is too large: at most {settings.max_body_bytes} bytes are taken."
    )


def _key() -> str:
    """Return the API key that was sent; the header takes precedence over `?key=`."""
    header = request.headers.get("Authorization")
    if header is None:
        key = request.args.get("key", "")
    else:
        scheme, _, key = header.strip().partition(" ")
        if scheme.lower() != "bearer":
            raise InvalidKey("Incorrect API key provided: send it as 'Authorization: Bearer KEY'.")
    if not key.strip():
        raise InvalidKey(
            "Incorrect API key provided: none was sent. Send it as 'Authorization: Bearer KEY'."
        )
    return key.strip()


def read_body() -> bytes:
    """Return the raw body; raise `RequestTooLarge`, or `InvalidRequest` if it cannot be read."""
    declared = request.content_length
    # One byte more than allowed distinguishes a body that is too large from one that just fits.
    size = settings.max_body_bytes + 1 if declared is None else declared
    try:
        body: bytes = request.environ["wsgi.input"].read(size)
    except (ParseException, OSError) as error:
        raise InvalidRequest(f"The body cannot be read: {error}.") from None
    if len(body) > settings.max_body_bytes:
        raise _too_large()
    if declared is not None and len(body) < declared:
        raise InvalidRequest(
            f"The body ended after {len(body)} of the {declared} bytes that were announced."
        )
    g.body_read = True
    return body.removeprefix(BYTE_ORDER_MARK)


def ensure_peeked(response: Response) -> Response:
    """Report the rate limit to an identified caller even if the request was not counted."""
    # A 503 may mean that Redis, which keeps the rate window, does not answer: do not ask again.
    if "caller" in g and "rate_window" not in g and response.status_code != 503:
        with contextlib.suppress(Unavailable):
            peek()
    return response


#: At most this much of a refused request's unread body is read and discarded.
DRAIN_BYTES = 64 * 1024 * 1024
DRAIN_CHUNK_BYTES = 64 * 1024
DRAIN_SECONDS = 5


def drain(response: Response) -> Response:
    """Discard the unread body of a refused request, once it has been answered.

    A connection that is closed with unread bytes is reset, and the client never sees the answer.
    """
    if response.status_code >= 400 and not g.get("body_read"):
        left = DRAIN_BYTES if request.content_length is None else request.content_length
        stream = request.environ["wsgi.input"]
        response.call_on_close(lambda: _discard(stream, min(left, DRAIN_BYTES)))
    return response


def _discard(stream: Any, left: int) -> None:
    with gevent.Timeout(DRAIN_SECONDS, False), contextlib.suppress(ParseException, OSError):
        while left > 0 and (chunk := stream.read(DRAIN_CHUNK_BYTES)):
            left -= len(chunk)


def hit() -> None:
    """Count the request in the caller's rate window; raise `RateLimitExceeded` if it is full."""
    try:
        g.rate_window = rate_limit.hit(caller().account_id, plan())
    except RateLimitExceeded as error:
        g.rate_window = Window(plan().requests_per_hour, 0, error.retry_after or 0)
        raise


def take_hit_back() -> None:
    """Uncount the request, which turned out to be a retry."""
    try:
        g.rate_window = rate_limit.take_back(caller().account_id, plan(), g.rate_window.mark)
    except Unavailable as error:
        log.warning("rate_limit.retry_counted", account=caller().account_id, reason=error.message)


def parse(body: bytes) -> Any:
    """Return the JSON in `body`, for which other greenlets may run meanwhile.

    Raises `UnsupportedMediaType`, `InvalidJSON`, or `InvalidRequest` if it is too complex.
    """
    mimetype = request.mimetype
    if mimetype and mimetype not in JSON_TYPES and not mimetype.endswith("+json"):
        raise UnsupportedMediaType(
            f"Content-Type {mimetype!r} is not taken: send JSON, as 'Content-Type: "
            "application/json' (curl: -H 'Content-Type: application/json')."
        )
    if not body or body.isspace():
        raise InvalidJSON("The body is empty: send a JSON object.")
    try:
        return bounded_json.loads(body)
    except bounded_json.TooComplex as error:
        raise InvalidRequest(f"The body is too complex: {error}.") from None
    except orjson.JSONDecodeError as error:
        raise InvalidJSON(f"The body is not valid JSON: {error}.") from None
