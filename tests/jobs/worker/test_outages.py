"""A Redis that forgets, a full queue, a storage that is silent: nobody waits or pays for it."""

import json
from collections import Counter

import redis

from tests.callers import HELLO, Callers
from tests.conftest import ONE_DATABASE
from tests.jobs.worker.disasters import CALLS, nothing_is_left_behind
from tests.stack import Stack, fetch, wait_until
from tests.upstream import Upstream


def test_a_redis_that_dies_and_forgets_is_503s_and_then_all_is_well(
    fresh_stack: Stack, upstream: Upstream
) -> None:
    upstream.script(default={"delay": 2})
    web = fresh_stack.web()
    fresh_stack.worker()
    account = fresh_stack.account()
    callers = Callers()

    callers.call(web, account.key, times=CALLS)
    upstream.wait(received=CALLS)
    fresh_stack.valkey.process.kill()
    callers.call(web, account.key, times=20)
    ready = fetch(f"{web}/readyz")
    fresh_stack.valkey.start()  # Nothing was kept: it comes back empty.
    replies = callers.replies()
    wait_until(lambda: fetch(f"{web}/readyz")[0] == 200, "the service is ready again")
    wait_until(
        lambda: fetch(f"{web}/v1/chat/completions", HELLO, key=account.key)[0] == 200,
        "calls are answered again",
    )

    assert (ready[0], json.loads(ready[2])["missing"]) == (503, ["redis"])
    assert {status for status, _, _ in replies} <= {200, 503}
    assert {status for status, _, _ in replies[:CALLS]} == {200}
    replies.append((200, {}, b""))
    nothing_is_left_behind(fresh_stack, account, replies)


def test_calls_that_were_queued_when_redis_forgot_end_free_of_charge(
    fresh_stack: Stack, upstream: Upstream
) -> None:
    web = fresh_stack.web()
    fresh_stack.worker(worker_concurrency=1)
    upstream.script({"hold": True})
    account = fresh_stack.account()
    callers = Callers()

    callers.call(web, account.key, times=10)
    upstream.wait(received=1)
    wait_until(lambda: len(account.jobs()) == 10, "all calls are in")
    fresh_stack.valkey.process.kill()
    fresh_stack.valkey.start()
    wait_until(lambda: sum(call.done() for call in callers.calls) == 9, "nine have ended")
    upstream.release()
    replies = callers.replies()

    statuses = Counter(status for status, _, _ in replies)
    assert statuses == {200: 1, 503: 9}
    nothing_is_left_behind(fresh_stack, account, replies)


def test_an_account_that_fills_its_share_of_the_queue_is_told_so_and_nobody_else_is(
    fresh_stack: Stack, upstream: Upstream
) -> None:
    web = fresh_stack.web(max_queue_depth=8, max_queue_bytes=500_000)
    greedy = [fresh_stack.account() for _ in range(4)]
    large = HELLO | {"messages": [{"role": "user", "content": "x" * 100_000}]}
    callers = Callers()

    for number, account in enumerate(greedy):
        callers.call(web, account.key, times=5, body=HELLO if number else large)
    wait_until(lambda: sum(call.done() for call in callers.calls) == 13, "thirteen are refused")
    other = fresh_stack.account()
    callers.call(web, other.key)
    wait_until(lambda: len(other.jobs()) == 1, "a fifth account's call is let in")
    refused = fetch(f"{web}/v1/chat/completions", HELLO, key=other.key)
    fresh_stack.worker()
    replies = callers.replies()

    # Of large bodies a share is one, of others two.
    assert Counter(status for status, _, _ in replies[:5]) == {200: 1, 503: 4}
    assert Counter(status for status, _, _ in replies[5:20]) == {200: 6, 503: 9}
    assert replies[20][0] == 200
    overloads = [json.loads(body)["error"] for status, _, body in replies if status == 503]
    assert {error["code"] for error in overloads} == {"overloaded"}
    assert all(error["message"].startswith("Your account") for error in overloads)
    assert all(headers["retry-after"] for status, headers, _ in replies if status == 503)
    status, _, body = refused
    assert (status, json.loads(body)["error"]["code"]) == (503, "overloaded")
    assert "account" not in json.loads(body)["error"]["message"]
    assert greedy[1].standing() == (998, 0)


@ONE_DATABASE
def test_without_a_worker_the_service_is_degraded_and_says_so(fresh_stack: Stack) -> None:
    web = fresh_stack.web()

    status, _, body = fetch(f"{web}/readyz")

    assert (status, json.loads(body)) == (200, {"status": "degraded", "missing": ["worker"]})


@ONE_DATABASE
def test_a_listening_connection_that_keeps_breaking_loses_no_answer(
    fresh_stack: Stack, upstream: Upstream
) -> None:
    upstream.script(default={"delay": 0.5})
    web = fresh_stack.web()
    fresh_stack.worker()
    account = fresh_stack.account()
    breaker = redis.Redis.from_url(fresh_stack.valkey.url)
    callers = Callers()

    for _ in range(12):
        callers.call(web, account.key, times=10)
        breaker.client_kill_filter(_type="pubsub")
        upstream.wait(received=len(callers.calls) // 2)
    replies = callers.replies()
    breaker.close()

    # A call that begins while the connection is being renewed may be refused, and says so.
    assert {status for status, _, _ in replies} <= {200, 503}
    nothing_is_left_behind(fresh_stack, account, replies)
    assert fetch(f"{web}/v1/chat/completions", HELLO, key=account.key)[0] == 200


@ONE_DATABASE
def test_a_storage_that_does_not_answer_fails_its_own_calls_only(
    fresh_stack: Stack, upstream: Upstream
) -> None:
    web = fresh_stack.web()
    fresh_stack.worker()
    account = fresh_stack.account()
    folder = fresh_stack.folder / "var" / "files"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bodies").write_text("A file where a folder should be.")
    large = HELLO | {"messages": [{"role": "user", "content": "x" * 100_000}]}

    refused = fetch(f"{web}/v1/chat/completions", large, key=account.key)
    answered = fetch(f"{web}/v1/chat/completions", HELLO, key=account.key)

    assert (refused[0], json.loads(refused[2])["error"]["code"]) == (503, "unavailable")
    assert answered[0] == 200
    assert account.standing() == (999, 0)
    assert fresh_stack.unfinished() == 0
