"""The one place where `requests` is used and its errors become ours.

`post` sends one request within the deadline of its `Call` and reads the whole answer, `stream`
gives the answer to be read as it comes. A call can be ended from any other greenlet or thread, at
any moment: its socket is shut down, whoever was blocked on it sees the end of the connection, and
the reason is raised there. Nothing is ever thrown into a greenlet.

Providers are trusted to mean well. A server that a caller named is not: `part`, `resolve`, `get`
and `post_to` are for those.
"""

import copy
import errno
import functools
import http.client
import io
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urlsplit

import orjson
import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import (
    ConnectTimeoutError,
    NameResolutionError,
    NewConnectionError,
    ProxyError,
)
from urllib3.util import wait_for_write

from config.settings import MIB, settings
from models.errors import InvalidRequest, LikeDoError, ProviderFailed, ProviderTimeout
from providers import sse

CONNECT_SECONDS = 10.0
MAX_ANSWER_BYTES = 64 * MIB
#: Bytes asked for at once; a read returns what has come, be it less.
READ_BYTES = 64 * 1024
#: How an event stream of OpenAI's kind says that nothing follows.
DONE = b"[DONE]"
#: What may pass between that and the end of the body, for the connection to be used again. A new
#: one would take longer.
PARTING_SECONDS = 0.05

#: Compression would save a provider's bandwidth at the price of our CPU.
HEADERS = {
    "Content-Type": "application/json",
    "Accept": "application/json",
    "Accept-Encoding": "identity",
    "User-Agent": "likedo/1",
}

_BODILESS = {name: value for name, value in HEADERS.items() if name != "Content-Type"}

#: A model may think for minutes without a word, and routers on the way forget a connection that
#: says nothing for so long. The kernel speaks up after these seconds, then again.
KEEP_ALIVE = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)] + [
    (socket.IPPROTO_TCP, getattr(socket, name), value)
    for name, value in (("TCP_KEEPIDLE", 45), ("TCP_KEEPINTVL", 30), ("TCP_KEEPCNT", 4))
    if hasattr(socket, name)
]

#: A line of what `socket.getaddrinfo` answers.
Address = tuple[int, int, int, str, Any]

#: What the layers below us raise. `OSError` is the parent of `requests.RequestException` too.
FOREIGN = (OSError, urllib3.exceptions.HTTPError, http.client.HTTPException)

#: How the end of a connection looks from this side, where nothing was read from it.
GONE = (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError)


@dataclass(frozen=True, slots=True)
class Response:
    """A whole answer. The names of the headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    content: bytes


class Call:
    """One job's time with a provider: its deadline, and how to end it early from outside.

    Several requests may run under one call, side by side.
    """

    def __init__(self, timeout_seconds: float) -> None:
        #: On the monotonic clock, in seconds.
        self.deadline = time.monotonic() + timeout_seconds
        #: When what is waited for now has to be there, if that is before the deadline.
        self._due = self.deadline
        #: Set by whoever asks a provider: what is cancelled after that is charged.
        self.asked = False
        self._reason: LikeDoError | None = None
        self._aborted = threading.Event()
        self._lock = threading.Lock()
        self._exchanges: set[_Exchange] = set()

    @property
    def seconds_left(self) -> float:
        """The seconds until the deadline, or until what is waited for now has to be there."""
        return self._due - time.monotonic()

    @property
    def reason(self) -> LikeDoError | None:
        """What it was aborted with, if it was."""
        return self._reason

    @property
    def is_over(self) -> bool:
        """Whether it was aborted or its deadline is past, so that nothing more can be asked."""
        return self._reason is not None or self.deadline <= time.monotonic()

    def allow(self, seconds: float | None) -> None:
        """Let the next word take so many seconds; None: all the time until the deadline.

        A provider that keeps a connection alive without a word is not given any more by that.
        """
        due = self.deadline if seconds is None else time.monotonic() + seconds
        self._due = min(due, self.deadline)

    def abort(self, reason: LikeDoError) -> None:
        """End the call at once, with `reason`; the first reason given stays."""
        with self._lock:
            if self._reason is None:
                self._reason = reason
            self._aborted.set()
            for exchange in self._exchanges:
                exchange.cut()

    def check(self) -> None:
        """Raise the reason the call was aborted for; `ProviderTimeout` where its time is up."""
        if self._reason is not None:
            raise self._reason
        if self.seconds_left <= 0:
            raise ProviderTimeout("The provider did not answer in time.")

    def wait(self, seconds: float) -> None:
        """Wait, raising as `check` does as soon as there is a reason to."""
        self._aborted.wait(max(0.0, min(seconds, self.seconds_left)))
        self.check()


class _Exchange:
    """One request on its way, as its connection sees it."""

    def __init__(self, call: Call, fresh: bool = False) -> None:
        self.call = call
        #: Do not use a connection that was used before.
        self.fresh = fresh
        self.reused = False
        #: Whether the server may have read something of the request.
        self.sent = False
        self.answered = False
        self._socket: socket.socket | None = None
        self._handle: int | None = None

    @contextmanager
    def is_current(self) -> Iterator[None]:
        """Let the connection that this thread takes now be the one to cut."""
        _current.exchange = self
        try:
            yield
        finally:
            _current.exchange = None

    def begin(self) -> None:
        """Let `Call.abort` cut it."""
        with self.call._lock:
            self.call._exchanges.add(self)

    def end(self) -> None:
        """Leave the connection alone from now on; twice changes nothing."""
        with self.call._lock:
            self.call._exchanges.discard(self)
            self.forget()
        self._socket = None

    def watch(self, sock: socket.socket) -> None:
        """Take `sock` as the one to cut; raise the reason if the call is over already.

        What is kept is a second handle to the same connection. It stays valid through the TLS
        handshake and after http.client has let go of its socket, and shutting it down disturbs
        none of the objects that a blocked reader stands in, as closing those would.
        """
        call = self.call
        with call._lock:
            if call._reason is not None:
                raise call._reason
            self.forget()
            self._handle = os.dup(sock.fileno())
        self._socket = sock

    def forget(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def cut(self) -> None:
        if self._handle is None:
            return
        handle = socket.socket(fileno=self._handle)
        with suppress(OSError):  # The other side was faster.
            handle.shutdown(socket.SHUT_RDWR)
        handle.detach()

    def narrow(self, seconds: float = float("inf")) -> None:
        """Let the next read outlast neither the deadline nor `seconds`."""
        self.call.check()
        if self._socket is not None:
            with suppress(OSError):  # It is closed: the answer has been read to its end.
                self._socket.settimeout(max(0.001, min(seconds, self.call.seconds_left)))


class _Current(threading.local):
    """The exchange that this thread, or greenlet, is busy with."""

    exchange: _Exchange | None = None


_current = _Current()


def _raise_if(number: int) -> None:
    """Raise the error of the operating system that has this number; a connection begins late."""
    if number not in (0, errno.EINPROGRESS):
        raise OSError(number, os.strerror(number))


class _Watched(HTTPConnection):
    """A connection that tells the current exchange which socket it uses."""

    _used = False

    def _new_conn(self) -> socket.socket:
        """Connect as urllib3 does, with each socket watched before its first packet."""
        try:
            return self._connect()
        except socket.gaierror as error:
            raise NameResolutionError(self.host, self, error) from error
        except TimeoutError as error:
            raise ConnectTimeoutError(self, "the connection was not accepted in time") from error
        except OSError as error:
            raise NewConnectionError(self, f"the connection was refused: {error}") from error

    def _connect(self) -> socket.socket:
        failure: OSError = OSError("the host has no address")
        for family, kind, protocol, _, address in self._addresses():
            sock = socket.socket(family, kind, protocol)
            try:
                self._connect_one(sock, address)
                return sock
            except OSError as error:
                sock.close()
                failure = error
            except LikeDoError:
                sock.close()
                raise
        raise failure

    def _addresses(self) -> Sequence[Address]:
        host = self._dns_host.strip("[]")
        return socket.getaddrinfo(host, self.port, type=socket.SOCK_STREAM)

    def _connect_one(self, sock: socket.socket, address: Any) -> None:
        for option in (*(self.socket_options or ()), *KEEP_ALIVE):
            sock.setsockopt(*option)
        sock.setblocking(False)
        _raise_if(sock.connect_ex(address))
        # A socket can be shut down from here on and not earlier, when it has nothing to shut: were
        # it watched first, an abort in between would be lost, and the connection waited for.
        if _current.exchange is not None:
            _current.exchange.watch(sock)
            _current.exchange.call.check()
        if not wait_for_write(sock, timeout=self._patience()):
            raise TimeoutError
        _raise_if(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
        sock.settimeout(self._patience())

    def _patience(self) -> float:
        exchange = _current.exchange
        left = exchange.call.seconds_left if exchange is not None else CONNECT_SECONDS
        return max(0.001, min(left, CONNECT_SECONDS))

    def connect(self) -> None:
        super().connect()
        # What follows the handshake is the request.
        if _current.exchange is not None:
            _current.exchange.sent = True

    def request(self, *args: Any, **kwargs: Any) -> None:
        exchange = _current.exchange
        if exchange is not None and self.sock is not None:
            exchange.reused = self._used
            exchange.watch(self.sock)
            # The last answer on it may have left it little time.
            exchange.narrow()
            exchange.sent = True
        self._used = True
        super().request(*args, **kwargs)

    def getresponse(self) -> urllib3.response.HTTPResponse:  # type: ignore[override]  # urllib3's own is wider than http.client's
        response = super().getresponse()
        if _current.exchange is not None:
            _current.exchange.answered = True
        return response

    def close(self) -> None:
        self._used = False
        super().close()


class _WatchedTLS(_Watched, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Watched

    def _get_conn(self, timeout: float | None = None) -> Any:
        connection = super()._get_conn(timeout)
        if _current.exchange is not None and _current.exchange.fresh:
            connection.close()
        return connection


class _PoolTLS(_Pool, HTTPSConnectionPool):
    ConnectionCls = _WatchedTLS


_POOLS = {"http": _Pool, "https": _PoolTLS}


class _Adapter(HTTPAdapter):
    """Requests' adapter over our connections, with one TLS context for all of them.

    urllib3 would read the CA bundle anew for each connection, which costs more than a call.
    """

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self._context = context
        super().__init__(pool_connections=1, pool_maxsize=settings.worker_concurrency)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs)
        manager.pool_classes_by_scheme = _POOLS
        return manager

    def build_connection_pool_key_attributes(
        self, request: Any, verify: Any, cert: Any = None
    ) -> Any:
        parts = urlsplit(request.url)
        host = {"scheme": parts.scheme, "host": parts.hostname, "port": parts.port}
        return host, {"ssl_context": self._context} if self._context else {}

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        """The context verifies."""


class _Session:
    """The way to one origin, such as `https://api.openai.com`.

    `requests` finds the proxy, the CA bundle and the pool of connections, once. Each call then
    goes to the pool itself, which takes half the CPU of `requests.Session.post`, keeps no cookies
    and follows no redirect.
    """

    def __init__(self, origin: str) -> None:
        found = requests.Session().merge_environment_settings(origin, {}, None, None, None)
        proxies, verify = found["proxies"], found["verify"]
        context = _tls_context(verify) if origin.startswith("https:") else None
        self._adapter = _Adapter(context)
        request = requests.Request("POST", origin).prepare()
        self._pool: Any = self._adapter.get_connection_with_tls_context(request, verify, proxies)
        #: A proxy of plain HTTP wants to be told the whole URL.
        self._prefix = self._adapter.request_url(request, proxies).removesuffix("/")

    def send(
        self, method: str, path: str, headers: dict[str, str], body: bytes | None, seconds: float
    ) -> urllib3.response.BaseHTTPResponse:
        response: urllib3.response.BaseHTTPResponse = self._pool.urlopen(
            method,
            self._prefix + path,
            body=body,
            headers=headers,
            retries=False,
            redirect=False,
            assert_same_host=False,
            preload_content=False,
            timeout=urllib3.Timeout(connect=CONNECT_SECONDS, total=seconds),
        )
        return response


def _tls_context(verify: Any) -> ssl.SSLContext:
    bundle = verify if isinstance(verify, str) else DEFAULT_CA_BUNDLE_PATH
    if os.path.isdir(bundle):
        return ssl.create_default_context(capath=bundle)
    return ssl.create_default_context(cafile=bundle)


@functools.cache
def _session(origin: str) -> _Session:
    return _Session(origin)


def forget_connections() -> None:
    """Close the idle connections; the next call reads the environment's proxies anew."""
    _session.cache_clear()
    _straight_context.cache_clear()


class Answer:
    """An answer whose headers have come. The names of the headers are in lower case.

    Its body is read once: as a whole, or as the events of a stream.
    """

    def __init__(self, raw: urllib3.response.BaseHTTPResponse, exchange: _Exchange) -> None:
        self.status = raw.status
        self.headers: Mapping[str, str] = {k.lower(): v for k, v in raw.headers.items()}
        self._raw = raw
        self._exchange = exchange
        self._is_squeezed = "content-encoding" in self.headers
        self._size = 0
        #: The most bytes of a body that are read.
        self.limit = MAX_ANSWER_BYTES
        self._first = b""
        self._done = False

    def whole(self) -> Response:
        """Read to the end and return all of it."""
        return Response(self.status, self.headers, b"".join(self.pieces()))

    def pieces(self) -> Iterator[bytes]:
        """Yield the body as it comes, to its end; raises as `post` does."""
        if self._first:
            yield self._first
        while piece := self._read():
            yield piece

    def at_most(self, size: int) -> bytes:
        """Read to the end, or to one byte beyond `size`, and return what was read."""
        found = bytearray()
        while len(found) <= size and (piece := self._read(size + 1 - len(found))):
            found += piece
        return bytes(found)

    def has_events(self) -> bool:
        """Wait for the first byte of the body and tell by it events from JSON or a page."""
        while not self._first.strip() and (piece := self._read()):
            self._first += piece
        return self._first.lstrip()[:1] not in (b"{", b"[", b"<")

    def events(self) -> Iterator[bytes]:
        """Yield the data of each event as it comes, up to `[DONE]` or the end of the body.

        Raises as `post` does, and `ProviderFailed` where an event is over 16 MiB.
        """
        for batch in self._batches():
            for data in batch:
                self._exchange.call.check()
                if data.startswith(DONE):
                    self._done = True
                    return
                yield data

    def close(self) -> None:
        """Return the connection to its pool; one with something unread on it is closed first."""
        try:
            if self._done and self._raw.connection is not None:
                self._part()
            if self._raw.connection is not None:
                self._raw.close()
            self._raw.release_conn()
        finally:
            self._exchange.end()

    def _batches(self) -> Iterator[list[bytes]]:
        parser = sse.Parser()
        for piece in self.pieces():
            yield parser.feed(piece)
        yield parser.end()

    def _read(self, most: int = READ_BYTES) -> bytes:
        """Return the next bytes of the body, as many as have come; none at its end."""
        self._exchange.narrow()
        piece = self._raw.read1(min(most, READ_BYTES), decode_content=self._is_squeezed)
        if self._raw.connection is None:
            # Read to its end, it is in the pool already, and may be another call's.
            self._exchange.end()
        self._size += len(piece)
        if self._size > self.limit:
            raise ProviderFailed("The provider's answer is too large.")
        if not piece:
            # The end of the body may have been the abort.
            self._exchange.call.check()
        return piece

    def _part(self) -> None:
        """Read the end of the body if it comes at once; what else there is does not matter."""
        with suppress(LikeDoError, *FOREIGN):
            self._exchange.narrow(PARTING_SECONDS)
            self._raw.read1(READ_BYTES, decode_content=self._is_squeezed)


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
    exchange = _Exchange(call, fresh=True)
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
    once: "_Exchange | None" = None,
) -> Iterator[Answer]:
    """Send a request and give its answer. `once`: the exchange to do it in, and no other."""
    scheme, _, host, path = url.split("/", 3)
    headers = {**(HEADERS if body is not None else _BODILESS), **headers}
    with _translated(call):
        request = _Request(_session(f"{scheme}//{host}"), method, "/" + path, headers, body)
        with closing(_ask(once, request) if once else _send(call, request)) as answer:
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
def _translated(call: Call) -> Iterator[None]:
    try:
        yield
    except FOREIGN as error:
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
class _Request:
    session: _Session
    method: str
    path: str
    headers: dict[str, str]
    body: bytes | None = None


def _send(call: Call, request: _Request) -> Answer:
    exchange = _Exchange(call)
    try:
        return _ask(exchange, request)
    except FOREIGN as error:
        if not _went_stale(exchange, error):
            raise

    # A kept connection that ends without one byte of answer was closed by the server while idle,
    # as every server does; our request crossed that close on the wire and was not read. Were it
    # read after all, a chat would be generated twice and the caller still pay for one.
    return _ask(_Exchange(call, fresh=True), request)


def _went_stale(exchange: _Exchange, error: Exception) -> bool:
    exchange.call.check()
    ended = isinstance(error.args[-1] if error.args else None, GONE)
    return ended and exchange.reused and not exchange.answered


def _ask(exchange: _Exchange, request: _Request) -> Answer:
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


# ---- Servers that a caller named

#: What may come with a body: the headers, and how the body is cut into chunks.
WRAPPING_BYTES = MIB
#: gevent has ten threads to look up names with. Whoever names hosts whose servers do not answer
#: must leave some of them to the providers' own.
LOOKUPS = 4
#: Some more for what providers made and answer with: it was paid for, and has to be fetched
#: whatever hosts callers name.
RESULT_LOOKUPS = 3

_lookups = threading.BoundedSemaphore(LOOKUPS)
_result_lookups = threading.BoundedSemaphore(RESULT_LOOKUPS)


class _Told(_Exchange):
    """What is no connection, and yet has to hear that its call was aborted."""

    def __init__(self, call: Call, tell: Callable[[], object]) -> None:
        super().__init__(call)
        self._tell = tell

    def cut(self) -> None:
        self._tell()


@contextmanager
def _told(call: Call, tell: Callable[[], object]) -> Iterator[None]:
    """Have `tell` called when the call is aborted; raise the reason if it is already."""
    told = _Told(call, tell)
    told.begin()
    try:
        call.check()
        yield
    finally:
        told.end()


@contextmanager
def part(call: Call, seconds: float) -> Iterator[Call]:
    """Give a call that ends with `call`, for the same reason, or with `ProviderTimeout` after so
    many seconds, be it in the middle of headers or a handshake that come byte by byte: the
    deadline alone bounds the wait for each of those bytes.
    """
    seconds = min(seconds, call.seconds_left)
    inner = Call(seconds)
    late = ProviderTimeout("The server did not answer in time.")
    timer = threading.Timer(seconds, inner.abort, [late])
    timer.daemon = True
    with _told(call, lambda: inner.abort(call._reason or late)):
        timer.start()
        try:
            yield inner
        finally:
            timer.cancel()


def resolve(call: Call, host: str, port: int, of_result: bool = False) -> Sequence[Address]:
    """Return the addresses of `host`, or none where it has none.

    `of_result`: no caller named it, but a provider that was paid for what is there. Raises what
    `call` was aborted with, and `ProviderTimeout` past its deadline. A lookup cannot be stopped; it
    is left to itself then.
    """
    found: list[Address] = []
    done = threading.Event()
    lookups = _result_lookups if of_result else _lookups

    def look_up() -> None:
        with lookups, suppress(OSError, UnicodeError):
            if not call.is_over:
                found.extend(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        done.set()

    with _told(call, done.set):
        threading.Thread(target=look_up, name=f"look up {host}", daemon=True).start()
        done.wait(call.seconds_left)
    call.check()
    return found


@contextmanager
def get(
    call: Call, url: str, addresses: Sequence[Address], headers: Mapping[str, str], max_bytes: int
) -> Iterator[Answer]:
    """Ask one of `addresses` for `url` and give the answer, whatever its status, with its headers.

    The name in `url` is told to the server and checked against its certificate, and not looked up.
    The connection goes there straight, past any proxy of the environment, which would look the name
    up by itself; it is new, and not kept. Raises as `post` does, save for redirects, and
    `ProviderFailed` where more than a body of `max_bytes` comes in any form.
    """
    with _ask_straight(call, "GET", url, addresses, headers, None, max_bytes) as answer:
        yield answer


@contextmanager
def post_to(
    call: Call, url: str, addresses: Sequence[Address], headers: Mapping[str, str], body: bytes
) -> Iterator[Answer]:
    """Send `body` to one of `addresses` as `get` asks one, once, and give the answer likewise.

    What is of interest is its head: its body may have up to a MiB, and need not be read.
    """
    with _ask_straight(call, "POST", url, addresses, headers, body, 0) as answer:
        yield answer


@contextmanager
def _ask_straight(
    call: Call,
    method: str,
    url: str,
    addresses: Sequence[Address],
    headers: Mapping[str, str],
    body: bytes | None,
    max_bytes: int,
) -> Iterator[Answer]:
    parts = urlsplit(url)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    with _translated(call), closing(_Straight(parts, addresses, max_bytes)) as way:
        request = _Request(way, method, path, dict(headers), body)
        with closing(_ask(_Exchange(call), request)) as answer:
            yield answer


class _Straight(_Session):
    """The way to addresses that were checked."""

    def __init__(self, url: SplitResult, addresses: Sequence[Address], max_bytes: int) -> None:
        secure = {"ssl_context": _straight_context()} if url.scheme == "https" else {}
        given = {"addresses": addresses, "max_bytes": max_bytes + WRAPPING_BYTES}
        self._prefix = ""
        self._pool = _POOLS[url.scheme](url.hostname, url.port, **secure, **given)
        self._pool.ConnectionCls = _PinnedTLS if secure else _Pinned

    def close(self) -> None:
        self._pool.close()


@functools.cache
def _straight_context() -> ssl.SSLContext:
    found = requests.Session().merge_environment_settings("https://", {}, None, None, None)
    return _tls_context(found["verify"])


class _Pinned(_Watched):
    """A connection to one of the addresses it is given, good for so many bytes."""

    def __init__(
        self, *args: Any, addresses: Sequence[Address], max_bytes: int, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._given = addresses
        self.response_class = functools.partial(_Metered, max_bytes)  # type: ignore[assignment]  # it is only called

    def _addresses(self) -> Sequence[Address]:
        return self._given


class _PinnedTLS(_Pinned, _WatchedTLS):
    pass


class _Metered(http.client.HTTPResponse):
    """An answer all of whose bytes are counted, be they headers, body or trailers."""

    def __init__(self, max_bytes: int, sock: socket.socket, **kwargs: Any) -> None:
        super().__init__(sock, **kwargs)
        self.fp = io.BufferedReader(_Meter(self.fp.detach(), max_bytes))


class _Meter(io.RawIOBase):
    """What comes from a socket, as long as it is not too much.

    http.client skips trailers and interim answers without end. A greenlet that reads from a fast
    sender gives way to no other, the one with the timer included.
    """

    def __init__(self, raw: io.RawIOBase, max_bytes: int) -> None:
        self._raw = raw
        self._left = max_bytes

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        size = self._raw.readinto(buffer)
        self._left -= size or 0
        if self._left < 0:
            raise ProviderFailed("The server's answer is too large.")
        return size

    def close(self) -> None:
        self._raw.close()
        super().close()
