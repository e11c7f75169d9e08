"""However a call ends, it leaves no subscription behind."""

import json
from typing import Any

import redis

from tests.callers import HELLO, Callers
from tests.conftest import Server
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
