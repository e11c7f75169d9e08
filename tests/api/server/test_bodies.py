"""Bodies that are sent to do harm: below Flask, with and without a key, at any path."""

import json
import select
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from tests.api.server.test_http_edges import PATH, post, raw
from tests.callers import HELLO
from tests.conftest import ON_SQLITE, ONE_DATABASE, Server
from tests.stack import Account, Stack, fetch

#: 900 KB on the wire, which hold 150 KB.
TINY_CHUNKS = b"1\r\nx\r\n" * 150_000 + b"0\r\n\r\n"


def headers(path: str, content_type: str, *more: str, method: str = "POST") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: here", f"Content-Type: {content_type}", *more]
    return "\r\n".join([*lines, "Transfer-Encoding: chunked", "", ""]).encode()


@ON_SQLITE
@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v1/chat/completions", 401),
        ("POST", "/nowhere", 404),
        ("GET", "/healthz", 200),
        ("OPTIONS", "/v1/chat/completions", 200),
    ],
)
def test_a_body_that_nobody_wants_is_thrown_away_unparsed_and_the_connection_closed(
    server: Server, method: str, path: str, status: int
) -> None:
    # Were it parsed, this would not be a chunk, nor what follows a request.
    wrong = b"zz\r\n" + b"GET /healthz HTTP/1.1\r\nHost: here\r\n\r\n" * 1000

    head = headers(path, "application/json", method=method)
    got, said_headers, body = raw(server.stack.ports[0], head + wrong)

    assert (got, said_headers["connection"]) == (status, "close")
    assert body.count(b"HTTP/1.1") == 0


@ON_SQLITE
def test_chunks_of_one_byte_are_refused_and_others_are_answered_meanwhile(
    server: Server, account: Account
) -> None:
    key = f"Authorization: Bearer {account.key}"
    chat = headers("/v1/chat/completions", "application/json", key)
    upload = headers("/v1/files", "multipart/form-data; boundary=b", key)
    port = server.stack.ports[0]
    with ThreadPoolExecutor(4) as threads:
        attacks = [threads.submit(raw, port, head + TINY_CHUNKS) for head in (chat, upload) * 2]
        answered = 0
        while not all(attack.done() for attack in attacks):
            assert fetch(f"{server.url}/healthz", timeout=5)[0] == 200
            answered += 1

    for attack in attacks:
        status, said, body = attack.result()
        assert (status, said["connection"]) == (400, "close")
        assert "chunks are so small" in json.loads(body)["error"]["message"]
    assert answered > 4
    assert account.jobs() == []


@ON_SQLITE
def test_a_connection_is_used_again_after_a_small_body_that_nobody_read(
    server: Server, account: Account
) -> None:
    body = json.dumps(HELLO).encode()
    unread = b"GET /healthz HTTP/1.1\r\nHost: here\r\nContent-Length: 5\r\n\r\nhello"
    last = post(account.key, f"Content-Length: {len(body)}", "Expect: 100-continue")

    with socket.create_connection(("127.0.0.1", server.stack.ports[0]), timeout=30) as connection:
        connection.sendall(unread + last)
        said = b""
        while b"100 Continue" not in said:
            said += connection.recv(65536)
        connection.sendall(body)
        while chunk := connection.recv(65536):
            said += chunk

    assert said.count(b"HTTP/1.1 200 OK") == 2


@ONE_DATABASE
def test_bodies_that_never_end_are_cut_off(fresh_stack: Stack) -> None:
    fresh_stack.web(body_start_seconds=0.2, body_rate_seconds=0.5)
    account = fresh_stack.account()
    upload = incomplete(account).replace(PATH.encode(), b"/v1/files")
    upload = upload.replace(b"application/json", b"multipart/form-data; boundary=b")
    part = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nhalf'

    for request in (incomplete(account), upload + part):
        status, said, body = raw(fresh_stack.ports[0], request)

        error = json.loads(body)["error"]
        assert (status, error["type"]) == (408, "invalid_request_error")
        assert error["code"] == "request_timeout"
        assert (said["connection"], said["x-should-retry"]) == ("close", "true")
        # What could not be read does not count.
        assert said["x-ratelimit-remaining-requests"] == "2000"


@ON_SQLITE
def test_an_account_can_leave_eight_bodies_open_and_not_one_more(server: Server) -> None:
    account, other = server.stack.account(), server.stack.account()
    address = ("127.0.0.1", server.stack.ports[0])
    with ExitStack() as opened:
        connections = [
            opened.enter_context(socket.create_connection(address, timeout=30)) for _ in range(9)
        ]
        for connection in connections:
            connection.sendall(incomplete(account))
        answered, _, _ = select.select(connections, [], [], 30)
        (refused,) = answered
        said = refused.makefile("rb").read()
        whole = fetch(f"{server.api}/chat/completions", HELLO, key=account.key)
        large = fetch(f"{server.api}/chat/completions", b" " * 300_000, key=other.key)

    assert said.startswith(b"HTTP/1.1 503") and b'"overloaded"' in said and b"Your account" in said
    # A body that has arrived already waits for nothing, and others are not concerned.
    assert (whole[0], large[0]) == (200, 400)


def incomplete(account: Account) -> bytes:
    return post(account.key, "Content-Length: 100000") + b"{"
