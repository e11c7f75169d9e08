"""Requests to hosts that a caller chose: only to checked addresses, with limited sizes."""

import functools
import http.client
import io
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from ipaddress import ip_address
from typing import Any
from urllib.parse import SplitResult, urlsplit

from config.settings import MIB
from models.errors import InvalidRequest, ProviderFailed
from net import connection, lookups, public_hosts
from net import http as net_http
from net.answer import Answer
from net.call import Call
from net.connection import AbortableConnection, AbortableTLSConnection, Address, Session
from net.exchange import Exchange
from net.http import Request

#: Bytes allowed beside a body: headers and chunk framing.
OVERHEAD_BYTES = MIB


def public_addresses(
    call: Call, parts: SplitResult, refusal: str, any_address: bool = False
) -> Sequence[Address]:
    """Look up the host of a URL once, so that the connection goes to the addresses checked here.

    Raises `InvalidRequest` with the message `refusal` if the host has no address, or one that is
    not public: one message for both, so that it does not reveal which internal hosts exist. With
    `any_address` private ones are allowed. Otherwise raises as `lookups.resolve` does.
    """
    addresses = resolve(call, parts)
    if not addresses or not (any_address or all(map(is_public, addresses))):
        raise InvalidRequest(refusal)
    return addresses


def resolve(call: Call, parts: SplitResult, of_result: bool = False) -> Sequence[Address]:
    """Return the addresses of a URL's host, as `lookups.resolve` does."""
    port = public_hosts.PORTS[parts.scheme] if parts.port is None else parts.port
    return lookups.resolve(call, parts.hostname or "", port, of_result)


def is_public(address: Address) -> bool:
    """Tell whether an address may be connected to, whoever named its host."""
    return public_hosts.is_allowed(ip_address(address[4][0]))


@contextmanager
def get(
    call: Call, url: str, addresses: Sequence[Address], headers: Mapping[str, str], max_bytes: int
) -> Iterator[Answer]:
    """Get `url` from one of `addresses`; yield the answer, of any status, with its headers.

    The host in `url` is sent to the server and checked against its certificate, but not looked up.
    The connection is new, is not kept, and bypasses the environment's proxies, which would look the
    host up by themselves. Raises as `post` does, except for redirects, and `ProviderFailed` if the
    whole answer is larger than a body of `max_bytes` allows.
    """
    with _send_direct(call, "GET", url, addresses, headers, None, max_bytes) as answer:
        yield answer


@contextmanager
def post_to(
    call: Call, url: str, addresses: Sequence[Address], headers: Mapping[str, str], body: bytes
) -> Iterator[Answer]:
    """Post `body` to one of `addresses`, once; otherwise like `get`.

    Only the head of the answer matters: its body may have up to 1 MiB, and need not be read.
    """
    with _send_direct(call, "POST", url, addresses, headers, body, 0) as answer:
        yield answer


@contextmanager
def _send_direct(
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
    with (
        net_http.translated_errors(call),
        closing(_DirectSession(parts, addresses, max_bytes)) as session,
    ):
        request = Request(session, method, path, dict(headers), body)
        with closing(net_http.send_once(Exchange(call), request)) as answer:
            yield answer


class _DirectSession(Session):
    """A session for one request, connected to addresses that were checked, without a proxy."""

    def __init__(self, url: SplitResult, addresses: Sequence[Address], max_bytes: int) -> None:
        tls = {"ssl_context": connection.direct_tls_context()} if url.scheme == "https" else {}
        options = {"addresses": addresses, "max_bytes": max_bytes + OVERHEAD_BYTES}
        self._prefix = ""
        self._pool = connection.POOLS[url.scheme](url.hostname, url.port, **tls, **options)
        self._pool.ConnectionCls = _PinnedTLS if tls else _Pinned

    def close(self) -> None:
        self._pool.close()


class _Pinned(AbortableConnection):
    """A connection to one of the given `addresses`, whose answer has at most `max_bytes`."""

    def __init__(
        self, *args: Any, addresses: Sequence[Address], max_bytes: int, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._checked_addresses = addresses
        self.response_class = functools.partial(_LimitedResponse, max_bytes)  # type: ignore[assignment]  # it is only called

    def _addresses(self) -> Sequence[Address]:
        return self._checked_addresses


class _PinnedTLS(_Pinned, AbortableTLSConnection):
    pass


class _LimitedResponse(http.client.HTTPResponse):
    """A response of limited size: headers, body and trailers together."""

    def __init__(self, max_bytes: int, sock: socket.socket, **kwargs: Any) -> None:
        super().__init__(sock, **kwargs)
        self.fp = io.BufferedReader(_LimitedReader(self.fp.detach(), max_bytes))


class _LimitedReader(io.RawIOBase):
    """Reads from a socket, up to `max_bytes`.

    Without a limit http.client would skip endless trailers and interim responses. A greenlet that
    reads from a fast sender does not yield to others, not even to the one with the timer.
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
