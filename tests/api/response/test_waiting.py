"""Calls that take long: signs of life, late failures, clients that leave."""

import http.client
import json
import socket
from collections.abc import Iterator

import pytest

from tests.callers import HELLO
from tests.conftest import Server, provider_settings
from tests.stack import Account, Stack, fetch, wait_until
from tests.upstream import Upstream

PATH = "/api/v1/ai/chat/completions"


@pytest.fixture(scope="module")
def impatient(shared_upstream: Upstream) -> Iterator[Server]:
    """A server that shows signs of life after a second."""
    stack = Stack(**provider_settings(shared_upstream), sync_wait_seconds=1)
    yield Server(stack)
    stack.close()


def post(
    server: Server, key: str, headers: dict[str, str] | None = None
) -> http.client.HTTPConnection:
    """Send a call and return its connection, unread."""
    connection = http.client.HTTPConnection("127.0.0.1", server.stack.ports[0], timeout=60)
    sent = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    connection.request("POST", PATH, json.dumps(HELLO), sent | (headers or {}))
    return connection


def test_a_long_call_gets_newlines_and_then_its_answer(
    impatient: Server, upstream: Upstream
) -> None:
    upstream.script({"delay": 3})
    account = impatient.stack.account()

    status, headers, body = fetch(f"{impatient.api}/chat/completions", HELLO, key=account.key)

    assert status == 200
    assert headers["content-type"] == "application/json"
    assert body.startswith(b"\n{")
    assert json.loads(body)["credits_consumed"] == 1
    assert account.standing() == (999, 0)


def test_a_late_failure_cuts_the_body_so_that_nobody_takes_it_for_an_answer(
    impatient: Server, upstream: Upstream
) -> None:
    upstream.script(default={"hold": True, "status": 500, "json": {"error": {"message": "oops"}}})
    account = impatient.stack.account()

    connection = post(impatient, account.key)
    reply = connection.getresponse()
    job_id = reply.headers["x-job-id"]
    upstream.release()
    with pytest.raises(http.client.IncompleteRead):
        reply.read()
    connection.close()

    assert reply.status == 200
    job = json.loads(fetch(f"{impatient.api}/jobs/{job_id}", key=account.key)[2])
    assert (job["status"], job["error"]["code"]) == ("failed", "provider_error")
    assert account.standing() == (1000, 0)


def test_an_announced_read_timeout_brings_the_sign_of_life_forward(
    server: Server, account: Account, upstream: Upstream
) -> None:
    upstream.script({"hold": True})

    connection = post(server, account.key, {"x-stainless-read-timeout": "1.5"})
    reply = connection.getresponse()
    first = reply.read(1)
    upstream.release()
    rest = reply.read()
    connection.close()

    assert (reply.status, first) == (200, b"\n")
    assert json.loads(rest)["choices"]


def test_a_call_goes_on_without_its_client_and_is_kept_and_charged(
    server: Server, account: Account, upstream: Upstream
) -> None:
    upstream.script({"hold": True})

    connection = post(server, account.key)
    upstream.wait(received=1)
    connection.close()
    job_id = account.jobs()[0]["id"]
    wait_until(lambda: _left(server, job_id), "the hang-up was noticed")
    left_while = account.jobs()[0]["status"]
    upstream.release()
    wait_until(lambda: account.jobs()[0]["status"] == "completed", "the job ended")

    assert left_while == "in_progress"
    job = json.loads(fetch(f"{server.api}/jobs/{job_id}", key=account.key)[2])
    assert job["result"]["choices"][0]["message"]["content"] == "Hello from upstream."
    assert account.standing() == (9_999, 0)
    assert upstream.counts()["aborted"] == 0


def _left(server: Server, job_id: str) -> bool:
    return (
        server.stack.query("SELECT left_at FROM jobs WHERE id = :id", id=job_id)[0][0] is not None
    )


def test_a_call_whose_client_has_already_gone_is_dropped_before_anything_is_held(
    server: Server, account: Account, upstream: Upstream
) -> None:
    body = json.dumps(HELLO).encode()
    request = (
        f"POST {PATH} HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer {account.key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()
    with socket.create_connection(("127.0.0.1", server.stack.ports[0])) as connection:
        # Held back until the end is known, the request and the end of it arrive as one packet.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
        connection.sendall(request + body)
        connection.shutdown(socket.SHUT_WR)
        # The server closes when it has dropped the call.
        while connection.recv(4096):
            pass

    assert account.jobs() == []
    assert upstream.calls() == []
