"""Admitting requests, with checks in the contract's order: size, key, body, rate limit, JSON."""

import contextlib
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import orjson
import structlog
from flask import Response, g, request
from gevent.lock import BoundedSemaphore

from access import failures, keys, rate_limit
from access.keys import Caller
from access.rate_limit import Allowance, KeyLimit, Window, WindowFull
from api.request import body, client_address, sdk, upload
from config.catalog.load import catalog
from config.catalog.model import Plan
from models import bounded_json
from models.errors import (
    InvalidJSON,
    InvalidKey,
    InvalidRequest,
    LikeDoError,
    Unavailable,
    UnsupportedMediaType,
)

log = structlog.get_logger()

#: Calls of a burst that are admitted at a time. If all were, each would wait for the slowest
#: before the first is enqueued, and they would stay in step from there on.
MAX_ADMISSIONS = 16

admission_slots = BoundedSemaphore(MAX_ADMISSIONS)

JSON_TYPES = ("application/json", "text/json")


def admit() -> None:
    """Identify the caller of a request.

    Raises `RequestTooLarge`, `InvalidKey`, `RateLimitExceeded` or `AddressNotAllowed`.
    """
    if request.method == "OPTIONS":
        return
    check_declared_size()
    caller = _identify(_key())
    caller.rules.check_address(client_address.find())
    g.caller = caller
    if request.method != "POST":
        peek()


def _identify(key: str) -> Caller:
    """Return the key's caller; look no unknown key up for an address that sent many wrong ones."""
    if not keys.is_known(key):
        failures.check(client_address.find())
    try:
        return keys.identify(key)
    except InvalidKey:
        failures.count(client_address.find())
        raise


def peek() -> None:
    """Report the rate limit in the response without counting the request.

    An account without a plan has no limit to report; what does not count is answered all the same.
    """
    if plan := catalog.plans.get(caller().plan):
        g.rate_window = rate_limit.peek(caller().account_id, plan, key_limit())


def caller() -> Caller:
    """Return the caller of the request being answered."""
    caller: Caller = g.caller
    return caller


def key_limit() -> KeyLimit | None:
    """Return the requests per hour of the caller's own key; None if it has no such limit."""
    limit = caller().rules.requests_per_hour
    return None if limit is None else KeyLimit(caller().key_id, limit)


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
    else:
        body.check_declared_size()


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
    """Return the raw body; raise what `body.read` does, or `RateLimitExceeded`.

    If the body has not arrived yet, a request that can join no other is counted before it is read:
    a full window is no reason to wait for it.
    """
    if sdk.may_retry() or body.is_at_hand():
        return body.read(caller().account_id)
    with counted():
        return body.read(caller().account_id)


@contextlib.contextmanager
def counted() -> Iterator[None]:
    """Count the request before the block, which reads its body; uncount it if that fails."""
    hit()
    try:
        yield
    except LikeDoError:
        take_hit_back()
        raise


def ensure_peeked(response: Response) -> Response:
    """Report the rate limit to an identified caller even if the request was not counted."""
    # A 503 may mean that Redis, which keeps the rate window, does not answer: do not ask again.
    if "caller" in g and "rate_window" not in g and response.status_code != 503:
        with contextlib.suppress(Unavailable):
            peek()
    return response


def hit() -> None:
    """Count the request, unless it was, in the caller's rate windows.

    Raises `WindowFull` if one is full.
    """
    if not g.get("is_counted"):
        g.rate_window = _hit(rate_limit.REQUESTS)
        g.is_counted = True


def hit_estimates() -> None:
    """Count an estimate in the window that is for them; raise `WindowFull` if it is full."""
    if caller().plan in catalog.plans:
        _hit(rate_limit.ESTIMATES)
    peek()


def _hit(allowance: Allowance) -> Window:
    try:
        return rate_limit.hit(caller().account_id, plan(), key_limit(), allowance)
    except WindowFull as full:
        g.rate_window = full.window
        raise


def take_hit_back() -> None:
    """Uncount the request: it turned out to be a retry, or its body could not be read."""
    g.is_counted = False
    try:
        g.rate_window = rate_limit.take_back(
            caller().account_id, plan(), g.rate_window.mark, key_limit()
        )
    except Unavailable as error:
        log.warning("rate_limit.hit_kept", account=caller().account_id, reason=error.message)


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
