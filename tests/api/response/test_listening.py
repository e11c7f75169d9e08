"""However a call ends, it leaves no subscription behind."""

import json
import socket
from contextlib import ExitStack
from typing import Any

import redis

from tests.callers import HELLO, Callers
from tests.conftest import ON_SQLITE, Server
from tests.stack import Account, fetch, wait_until
from tests.upstream import Upstream

STREAMED = HELLO | {"stream": True}
BAD = {"status": 400, "json": {"error": {"message": "No."}}}


def subscribed(server: Server) -> list[Any]:
    """Return the channels of jobs that the web process is subscribed to."""
    with redis.Redis(port=server.stack.valkey.port) as connection:
        return list(connection.pubsub_channels("likedo:job:*"))


def assert_nothing_left(server: Server) -> None:
    wait_until(lambda: not subscribed(server), "no job is listened to")


def test_answers_and_replays_leave_no_subscription(
    server: Server, account: Account, upstream: Upstream
) -> None:
    for body in (HELLO, STREAMED):
        headers = {"Idempotency-Key": json.dumps(body)}
        for _ in range(2):
            status, replied, _ = fetch(
                f"{server.api}/chat/completions", body, key=account.key, headers=headers
            )
            assert status == 200
        fetch(f"{server.api}/jobs/{replied['x-job-id']}/events", key=account.key)

    assert_nothing_left(server)


def test_failures_and_refusals_leave_no_subscription(
    server: Server, account: Account, upstream: Upstream
) -> None:
    upstream.script(default=BAD)
    poor = server.stack.account(credits=0)

    for body in (HELLO, STREAMED):
        assert fetch(f"{server.api}/chat/completions", body, key=account.key)[0] == 400
        assert fetch(f"{server.api}/chat/completions", body, key=poor.key)[0] == 402

    assert_nothing_left(server)


def test_calls_that_lose_a_race_for_one_key_leave_no_subscription(
    server: Server, account: Account, upstream: Upstream
) -> None:
    callers = Callers()
    callers.call(server.url, account.key, times=10, headers={"Idempotency-Key": "listening"})

    assert {status for status, _, _ in callers.replies()} == {200}
    assert len(account.jobs()) == 1
    assert_nothing_left(server)


def test_cancelled_and_abandoned_calls_leave_no_subscription(
    server: Server, account: Account, upstream: Upstream
) -> None:
    upstream.script(default={"delay": 3})
    callers = Callers()
    for body in (HELLO, STREAMED):
        callers.call(server.url, account.key, body=body, timeout=1)
    background = HELLO | {"background": True}

    job = json.loads(fetch(f"{server.api}/chat/completions", background, key=account.key)[2])
    cancelled = fetch(f"{server.api}/jobs/{job['id']}/cancel", {}, key=account.key)

    assert cancelled[0] == 200
    assert [status for status, _, _ in callers.replies()] == [0, 0]
    assert_nothing_left(server)


@ON_SQLITE
def test_an_account_has_a_hundred_readers_of_events_and_a_place_is_free_when_one_leaves(
    server: Server, account: Account, upstream: Upstream
) -> None:
    upstream.script(default={"delay": 60})
    made = fetch(f"{server.api}/chat/completions", HELLO | {"background": True}, key=account.key)
    path = f"/v1/jobs/{json.loads(made[2])['id']}/events"
    lines = (f"GET {path} HTTP/1.1", "Host: here", f"Authorization: Bearer {account.key}", "", "")
    address = ("127.0.0.1", server.stack.ports[0])
    with ExitStack() as opened:
        for _ in range(100):
            reader = opened.enter_context(socket.create_connection(address, timeout=30))
            reader.sendall("\r\n".join(lines).encode())
            assert reader.recv(12) == b"HTTP/1.1 200"
        refused = fetch(f"{server.url}{path}", key=account.key)
        reader.close()
        wait_until(lambda: status_of(address, lines) == b"HTTP/1.1 200", "a place is free")

    assert (refused[0], json.loads(refused[2])["error"]["code"]) == (503, "overloaded")
    assert "Your account has 100 readers" in json.loads(refused[2])["error"]["message"]
    fetch(f"{server.url}{path.removesuffix('events')}cancel", {}, key=account.key)
    assert_nothing_left(server)


def status_of(address: tuple[str, int], lines: tuple[str, ...]) -> bytes:
    with socket.create_connection(address, timeout=30) as connection:
        connection.sendall("\r\n".join(lines).encode())
        return connection.recv(12)
