"""Requests to hosts that a stranger chose: to checked addresses only, every byte counted."""

import functools
import http.client
import io
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from typing import Any
from urllib.parse import SplitResult, urlsplit

from config.settings import MIB
from models.errors import ProviderFailed
from net import connection
from net import http as net_http
from net.answer import Answer
from net.call import Call, on_abort
from net.connection import Address, Session, Watched, WatchedTLS
from net.exchange import Exchange
from net.http import Request

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

    with on_abort(call, done.set):
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
    with net_http.translated(call), closing(_Straight(parts, addresses, max_bytes)) as way:
        request = Request(way, method, path, dict(headers), body)
        with closing(net_http._ask_once(Exchange(call), request)) as answer:
            yield answer


class _Straight(Session):
    """The way to addresses that were checked."""

    def __init__(self, url: SplitResult, addresses: Sequence[Address], max_bytes: int) -> None:
        secure = {"ssl_context": connection.straight_context()} if url.scheme == "https" else {}
        given = {"addresses": addresses, "max_bytes": max_bytes + WRAPPING_BYTES}
        self._prefix = ""
        self._pool = connection.POOLS[url.scheme](url.hostname, url.port, **secure, **given)
        self._pool.ConnectionCls = _PinnedTLS if secure else _Pinned

    def close(self) -> None:
        self._pool.close()


class _Pinned(Watched):
    """A connection to one of the addresses it is given, good for so many bytes."""

    def __init__(
        self, *args: Any, addresses: Sequence[Address], max_bytes: int, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._given = addresses
        self.response_class = functools.partial(_Metered, max_bytes)  # type: ignore[assignment]  # it is only called

    def _addresses(self) -> Sequence[Address]:
        return self._given


class _PinnedTLS(_Pinned, WatchedTLS):
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
