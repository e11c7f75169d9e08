"""Requests to providers: post, stream, create, send without a body."""

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

#: Compressed answers would save bandwidth and cost CPU time here.
HEADERS = {
    "Content-Type": "application/json",
    "Accept": "application/json",
    "Accept-Encoding": "identity",
    "User-Agent": "likedo/1",
}

_BODILESS = {name: value for name, value in HEADERS.items() if name != "Content-Type"}

#: The errors of a connection that the server closed before any byte of the answer.
CONNECTION_CLOSED = (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError)


def post(call: Call, url: str, headers: Mapping[str, str], payload: Mapping[str, Any]) -> Response:
    """Send `payload` as JSON and return the whole answer, of any status but a redirect.

    Raises the reason if `call` is aborted, `ProviderTimeout` past its deadline, `ProviderFailed`
    if the connection fails or the answer is incomplete, a redirect or over 64 MiB, and
    `InvalidRequest` if the payload cannot be written as JSON.
    """
    body = encode_json(payload)
    del payload  # The body may be large, and is not kept twice.
    with _open(call, "POST", url, headers, body) as answer:
        return answer.whole()


def send_without_body(call: Call, method: str, url: str, headers: Mapping[str, str]) -> Response:
    """Send a request without a body, such as `GET`, and return the whole answer.

    Only for idempotent requests: one on a stale connection is sent again. Raises as `post` does.
    """
    with _open(call, method, url, headers, None) as answer:
        return answer.whole()


@contextmanager
def create(
    call: Call, url: str, headers: Mapping[str, str], body: bytes, content_type: str
) -> Iterator[Answer]:
    """Send a request that costs money each time it is processed; yield the answer with its headers.

    It goes over a new connection and is never sent again: a kept connection may be closed while
    the request is on its way, and then it is unknown whether the server read it. Raises as `post`
    does; the error has `nothing_ran` if no byte of the request can have been read.
    """
    exchange = Exchange(call, fresh=True)
    headers = {"Content-Type": content_type, **headers}
    try:
        with _open(call, "POST", url, headers, body, exchange) as answer:
            yield answer
    except LikeDoError as error:
        if exchange.sent:
            raise
        # A copy, since every request of an aborted call raises the same error, sent or not.
        unsent = copy.copy(error)
        unsent.nothing_ran = True
        raise unsent from error


@contextmanager
def stream(
    call: Call, url: str, headers: Mapping[str, str], payload: Mapping[str, Any]
) -> Iterator[Answer]:
    """Send `payload` as JSON; yield the answer once its headers have arrived.

    Raises as `post` does, also while the body is read. If the block ends before the answer does,
    the connection is closed at once.
    """
    headers = {"Accept": "text/event-stream", **headers}
    opened = _open(call, "POST", url, headers, encode_json(payload))
    del payload  # The body may be large, and is kept neither twice nor while the answer is read.
    with opened as answer:
        yield answer


@contextmanager
def _open(
    call: Call,
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes | None,
    exchange: Exchange | None = None,
) -> Iterator[Answer]:
    """Send a request and yield its answer. With `exchange` it is never sent again."""
    scheme, _, host, path = url.split("/", 3)
    headers = {**(HEADERS if body is not None else _BODILESS), **headers}
    with translated_errors(call):
        request = Request(
            connection.session(f"{scheme}//{host}"), method, "/" + path, headers, body
        )
        answer = send_once(exchange, request) if exchange else _send(call, request)
        del request, body  # The answer may take minutes to read, and is not sent again.
        with closing(answer):
            if 300 <= answer.status < 400:
                raise ProviderFailed(f"The provider sent a redirect (HTTP {answer.status}).")
            yield answer


def encode_json(payload: Mapping[str, Any]) -> bytes:
    """Return `payload` as JSON; raise `InvalidRequest` if it cannot be written as JSON."""
    try:
        return orjson.dumps(payload)
    except orjson.JSONEncodeError as error:
        raise InvalidRequest(f"The request cannot be written as JSON: {error}.") from error


@contextmanager
def translated_errors(call: Call) -> Iterator[None]:
    """Raise our own errors in place of those of `requests`, urllib3 and sockets."""
    try:
        yield
    except net_answer.FOREIGN_ERRORS as error:
        call.check()
        raise _translate(error) from error


def _translate(error: Exception) -> LikeDoError:
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
        return send_once(exchange, request)
    except net_answer.FOREIGN_ERRORS as error:
        if not _went_stale(exchange, error):
            raise

    # A kept connection that ends without one byte of an answer was closed by the server while it
    # was idle, as every server does; the request crossed that close and was not read. If it was
    # read after all, a chat is generated twice, and the caller still pays for one.
    return send_once(Exchange(call, fresh=True), request)


def _went_stale(exchange: Exchange, error: Exception) -> bool:
    exchange.call.check()
    ended = isinstance(error.args[-1] if error.args else None, CONNECTION_CLOSED)
    return ended and exchange.reused and not exchange.answered


def send_once(exchange: Exchange, request: Request) -> Answer:
    """Send a request once and return its answer, whose `close` ends the exchange.

    If this raises, the exchange has ended.
    """
    exchange.begin()
    try:
        exchange.call.check()
        with exchange.as_current():
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


def encode_form(fields: Mapping[str, Any]) -> tuple[bytes, str]:
    """Return a multipart form with `fields`, and its content type.

    Raises `InvalidRequest` if a field is not valid Unicode.
    """
    try:
        return encode_multipart_formdata({name: _form_value(fields[name]) for name in fields})
    except UnicodeEncodeError as error:
        raise InvalidRequest("The prompt is not valid Unicode text.", param="prompt") from error


def _form_value(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
