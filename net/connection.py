"""Connections to other servers: sockets that can be shut down, TLS, pools, sessions."""

import errno
import functools
import os
import socket
import ssl
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError
from urllib3.util import wait_for_write

from config.settings import settings
from models.errors import LikeDoError
from net import exchange as net_exchange

CONNECT_SECONDS = 10.0

#: TCP keep-alive: a model may think for minutes without sending a byte, and routers drop a
#: connection that is silent for that long. The kernel sends a probe after 45 s, then every 30 s.
KEEP_ALIVE_OPTIONS = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)] + [
    (socket.IPPROTO_TCP, getattr(socket, name), value)
    for name, value in (("TCP_KEEPIDLE", 45), ("TCP_KEEPINTVL", 30), ("TCP_KEEPCNT", 4))
    if hasattr(socket, name)
]

#: An entry of the result of `socket.getaddrinfo`.
Address = tuple[int, int, int, str, Any]


def _raise_if_error(number: int) -> None:
    """Raise `OSError` for an error `number`; a connection that is still in progress is none."""
    if number not in (0, errno.EINPROGRESS):
        raise OSError(number, os.strerror(number))


class AbortableConnection(HTTPConnection):
    """A connection that gives its socket to the current exchange, to be shut down on an abort."""

    _was_used = False

    def _new_conn(self) -> socket.socket:
        """Connect as urllib3 does, to each address in turn; an abort ends the wait."""
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
        for option in (*(self.socket_options or ()), *KEEP_ALIVE_OPTIONS):
            sock.setsockopt(*option)
        sock.setblocking(False)
        _raise_if_error(sock.connect_ex(address))
        # A socket can be shut down only once it connects. If it were watched earlier, an abort in
        # between would be lost, and the connection waited for.
        if net_exchange.current.exchange is not None:
            net_exchange.current.exchange.watch(sock)
            net_exchange.current.exchange.call.check()
        if not wait_for_write(sock, timeout=self._timeout_seconds()):
            raise TimeoutError
        _raise_if_error(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
        sock.settimeout(self._timeout_seconds())

    def _timeout_seconds(self) -> float:
        exchange = net_exchange.current.exchange
        left = exchange.call.seconds_left if exchange is not None else CONNECT_SECONDS
        return max(0.001, min(left, CONNECT_SECONDS))

    def connect(self) -> None:
        super().connect()
        # The request follows the handshake.
        if net_exchange.current.exchange is not None:
            net_exchange.current.exchange.sent = True

    def request(self, *args: Any, **kwargs: Any) -> None:
        exchange = net_exchange.current.exchange
        if exchange is not None and self.sock is not None:
            exchange.reused = self._was_used
            exchange.watch(self.sock)
            # The timeout may still be what was left for the previous answer.
            exchange.tighten_timeout()
            exchange.sent = True
        self._was_used = True
        super().request(*args, **kwargs)

    def getresponse(self) -> urllib3.response.HTTPResponse:  # type: ignore[override]  # urllib3's own is wider than http.client's
        response = super().getresponse()
        if net_exchange.current.exchange is not None:
            net_exchange.current.exchange.answered = True
        return response

    def close(self) -> None:
        self._was_used = False
        super().close()


class AbortableTLSConnection(AbortableConnection, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = AbortableConnection

    def _get_conn(self, timeout: float | None = None) -> Any:
        connection = super()._get_conn(timeout)
        if net_exchange.current.exchange is not None and net_exchange.current.exchange.fresh:
            connection.close()
        return connection


class _PoolTLS(_Pool, HTTPSConnectionPool):
    ConnectionCls = AbortableTLSConnection


POOLS = {"http": _Pool, "https": _PoolTLS}


class _Adapter(HTTPAdapter):
    """Requests' adapter with our connections and one TLS context for all of them.

    urllib3 would read the CA bundle for each connection, which costs more than a call.
    """

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self._context = context
        super().__init__(pool_connections=1, pool_maxsize=settings.worker_concurrency)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = POOLS

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs)
        manager.pool_classes_by_scheme = POOLS
        return manager

    def build_connection_pool_key_attributes(
        self, request: Any, verify: Any, cert: Any = None
    ) -> Any:
        parts = urlsplit(request.url)
        host = {"scheme": parts.scheme, "host": parts.hostname, "port": parts.port}
        return host, {"ssl_context": self._context} if self._context else {}

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        """Do nothing: the TLS context verifies certificates."""


class Session:
    """The connections to one origin, such as `https://api.openai.com`.

    `requests` finds the proxy, the CA bundle and the connection pool, once. Each call then uses
    the pool directly, which takes half the CPU of `requests.Session.post`, keeps no cookies and
    follows no redirects.
    """

    def __init__(self, origin: str) -> None:
        options = requests.Session().merge_environment_settings(origin, {}, None, None, None)
        proxies, verify = options["proxies"], options["verify"]
        context = _tls_context(verify) if origin.startswith("https:") else None
        self._adapter = _Adapter(context)
        request = requests.Request("POST", origin).prepare()
        self._pool: Any = self._adapter.get_connection_with_tls_context(request, verify, proxies)
        #: A plain HTTP proxy expects the whole URL in the request line.
        self._prefix = self._adapter.request_url(request, proxies).removesuffix("/")

    def send(
        self, method: str, path: str, headers: dict[str, str], body: bytes | None, seconds: float
    ) -> urllib3.response.BaseHTTPResponse:
        """Send a request and return the response once its headers are there, body unread."""
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
def session(origin: str) -> Session:
    """Return this process's session for `origin`."""
    return Session(origin)


def close_idle_connections() -> None:
    """Close the idle connections; the next call reads the proxies from the environment again."""
    session.cache_clear()
    direct_tls_context.cache_clear()


@functools.cache
def direct_tls_context() -> ssl.SSLContext:
    """Return the TLS context of connections that bypass proxies."""
    options = requests.Session().merge_environment_settings("https://", {}, None, None, None)
    return _tls_context(options["verify"])
