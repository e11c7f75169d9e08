"""Requests to providers: post, ask, create, stream."""

import copy
import ssl
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import orjson
import urllib3
from urllib3 import encode_multipart_formdata
from urllib3.exceptions import NewConnectionError, ProxyError

from models.errors import InvalidRequest, LikeDoError, ProviderFailed, ProviderTimeout
from net import answer as net_answer
from net import connection
from net.answer import Answer, Response
from net.call import Call
from net.connection import Session
from net.exchange import Exchange

#: Compression would save a provider's bandwidth at the price of our CPU.
HEADERS = {
    "Content-Type": "application/json",
    "Accept": "application/json",
    "Accept-Encoding": "identity",
    "User-Agent": "likedo/1",
}

_BODILESS = {name: value for name, value in HEADERS.items() if name != "Content-Type"}

#: How the end of a connection looks from this side, where nothing was read from it.
GONE = (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError)


def post(call: Call, url: str, headers: Mapping[str, str], payload: Mapping[str, Any]) -> Response:
    """Send `payload` as JSON and return the whole answer, whatever its status but a redirect.

    Raises what `call` was aborted with, `ProviderTimeout` past its deadline, `ProviderFailed`
    where the connection fails, the answer is cut short, redirects, or is over 64 MiB, and
    `InvalidRequest` where JSON cannot say the payload.
    """
    with _opened(call, "POST", url, headers, encoded(payload)) as answer:
        return answer.whole()


def ask(call: Call, method: str, url: str, headers: Mapping[str, str]) -> Response:
    """Send a request without a body, such as `GET`, and return the whole answer.

    Only for what may be asked twice: a connection that went stale is replaced. Raises as `post`.
    """
    with _opened(call, method, url, headers, None) as answer:
        return answer.whole()


@contextmanager
def create(
    call: Call, url: str, headers: Mapping[str, str], body: bytes, content_type: str
) -> Iterator[Answer]:
    """Send what costs money each time that it is read, and give the answer with its headers.

    It goes over a new connection and is never sent again: one that was kept may be closed while
    the request crosses it, and nobody can tell whether it was read. Raises as `post` does; the
    error has `nothing_ran` where no byte of the request can have been read.
    """
    exchange = Exchange(call, fresh=True)
    headers = {"Content-Type": content_type, **headers}
    try:
        with _opened(call, "POST", url, headers, body, exchange) as answer:
            yield answer
    except LikeDoError as error:
        if exchange.sent:
            raise
        # All requests of a call raise the one reason that it was aborted for, sent or not.
        unsent = copy.copy(error)
        unsent.nothing_ran = True
        raise unsent from error


@contextmanager
def stream(
    call: Call, url: str, headers: Mapping[str, str], payload: Mapping[str, Any]
) -> Iterator[Answer]:
    """Send `payload` as JSON and give the answer when its headers have come.

    Raises as `post` does, also from the reading. Left before the end of the answer, the connection
    is closed at once.
    """
    headers = {"Accept": "text/event-stream", **headers}
    with _opened(call, "POST", url, headers, encoded(payload)) as answer:
        yield answer


@contextmanager
def _opened(
    call: Call,
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes | None,
    once: Exchange | None = None,
) -> Iterator[Answer]:
    """Send a request and give its answer. `once`: the exchange to do it in, and no other."""
    scheme, _, host, path = url.split("/", 3)
    headers = {**(HEADERS if body is not None else _BODILESS), **headers}
    with translated(call):
        request = Request(
            connection.session(f"{scheme}//{host}"), method, "/" + path, headers, body
        )
        with closing(_ask_once(once, request) if once else _send(call, request)) as answer:
            if 300 <= answer.status < 400:
                raise ProviderFailed(f"The provider sent a redirect (HTTP {answer.status}).")
            yield answer


def encoded(payload: Mapping[str, Any]) -> bytes:
    """Return `payload` as JSON; raise `InvalidRequest` where JSON cannot say it."""
    try:
        return orjson.dumps(payload)
    except orjson.JSONEncodeError as error:
        raise InvalidRequest(f"The request cannot be written as JSON: {error}.") from error


@contextmanager
def translated(call: Call) -> Iterator[None]:
    try:
        yield
    except net_answer.FOREIGN as error:
        call.check()
        raise _ours(error) from error


def _ours(error: Exception) -> LikeDoError:
    if isinstance(error, NewConnectionError | ProxyError):
        return ProviderFailed("The provider could not be reached.")
    if isinstance(error, TimeoutError | urllib3.exceptions.TimeoutError):
        return ProviderTimeout("The provider did not answer in time.")
    if isinstance(error, ssl.SSLError | urllib3.exceptions.SSLError):
        return ProviderFailed("No secure connection to the provider could be made.")
    return ProviderFailed("The connection to the provider broke off.")


@dataclass(frozen=True, slots=True)
class Request:
    session: Session
    method: str
    path: str
    headers: dict[str, str]
    body: bytes | None = None


def _send(call: Call, request: Request) -> Answer:
    exchange = Exchange(call)
    try:
        return _ask_once(exchange, request)
    except net_answer.FOREIGN as error:
        if not _went_stale(exchange, error):
            raise

    # A kept connection that ends without one byte of answer was closed by the server while idle,
    # as every server does; our request crossed that close on the wire and was not read. Were it
    # read after all, a chat would be generated twice and the caller still pay for one.
    return _ask_once(Exchange(call, fresh=True), request)


def _went_stale(exchange: Exchange, error: Exception) -> bool:
    exchange.call.check()
    ended = isinstance(error.args[-1] if error.args else None, GONE)
    return ended and exchange.reused and not exchange.answered


def _ask_once(exchange: Exchange, request: Request) -> Answer:
    """Return the answer, whose `close` ends the exchange; it is ended already where this raises."""
    exchange.begin()
    try:
        exchange.call.check()
        with exchange.is_current():
            raw = request.session.send(
                request.method,
                request.path,
                request.headers,
                request.body,
                exchange.call.seconds_left,
            )
        return Answer(raw, exchange)
    except BaseException:
        exchange.end()
        raise


def form(fields: Mapping[str, Any]) -> tuple[bytes, str]:
    """Return a multipart form with `fields`, and its content type."""
    try:
        return encode_multipart_formdata({name: _written(fields[name]) for name in fields})
    except UnicodeEncodeError as error:
        raise InvalidRequest("The prompt is not valid Unicode text.", param="prompt") from error


def _written(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
