"""Credits under pressure: held before, charged after, never below zero."""

import json
from collections import Counter

from tests.callers import HELLO, Callers
from tests.conftest import EVERY_DATABASE, Server
from tests.stack import Account, Stack, fetch
from tests.upstream import Upstream


@EVERY_DATABASE
def test_200_calls_at_once_on_a_balance_for_50_are_50_paid_calls(
    fresh_stack: Stack, upstream: Upstream
) -> None:
    upstream.script(default={"delay": 1.0})
    webs = [fresh_stack.web(), fresh_stack.web()]
    fresh_stack.worker()
    account = fresh_stack.account(credits=50)

    callers = Callers()
    for number in range(200):
        callers.call(webs[number % 2], account.key)
    replies = callers.replies()

    statuses = Counter(status for status, _, _ in replies)
    refusals = {json.loads(body)["error"]["code"] for status, _, body in replies if status == 402}
    assert statuses == {200: 50, 402: 150}
    assert refusals <= {"credits_held", "insufficient_credits"}
    assert account.standing() == (0, 0)
    assert account.entries() == [("grant", 50)] + [("charge", -1)] * 50
    assert [job["attempts"] for job in account.jobs() if job["charged"]] == [1] * 50
    trails = fresh_stack.query("SELECT trail FROM jobs WHERE status = 'completed'")
    failed = [trail for (trail,) in trails if len(json.loads(trail or "[]")) > 1]
    assert len(upstream.calls()) == 50, (failed, fresh_stack.workers[0].said()[-3000:])
    assert fresh_stack.unfinished() == 0


def test_a_balance_held_by_running_calls_is_a_402_worth_a_retry(
    server: Server, upstream: Upstream
) -> None:
    upstream.script(default={"hold": True})
    account = server.stack.account(credits=1)

    callers = Callers()
    callers.call(server.url, account.key)
    upstream.wait(received=1)
    status, headers, body = fetch(f"{server.api}/chat/completions", HELLO, key=account.key)

    assert (status, json.loads(body)["error"]["code"]) == (402, "credits_held")
    assert (headers["retry-after"], headers["x-should-retry"]) == ("2", "true")
    assert account.standing() == (1, 1)
    upstream.release()
    assert callers.replies()[0][0] == 200
    assert account.standing() == (0, 0)


def test_a_cost_above_the_hold_is_taken_from_what_is_available(
    server: Server, account: Account, upstream: Upstream
) -> None:
    upstream.script(_using(5000, 1000))

    status, headers, _ = fetch(f"{server.api}/chat/completions", HELLO, key=account.key)

    assert (status, headers["x-credits-consumed"]) == (200, "8")
    assert account.standing() == (9_992, 0)


def test_a_cost_beyond_the_balance_is_written_off_by_name(
    server: Server, upstream: Upstream
) -> None:
    poor = server.stack.account(credits=3)
    upstream.script(_using(5000, 1000))

    status, headers, body = fetch(f"{server.api}/chat/completions", HELLO, key=poor.key)

    assert (status, headers["x-credits-consumed"], headers["x-credits-remaining"]) == (
        200,
        "3",
        "0",
    )
    assert json.loads(body)["credits_consumed"] == 3
    assert poor.standing() == (0, 0)
    assert poor.entries() == [("grant", 3), ("write_off", 5), ("charge", -8)]


def test_an_answer_that_says_nothing_is_free(
    server: Server, account: Account, upstream: Upstream
) -> None:
    empty = _using(10, 0)
    empty["json"]["choices"][0]["finish_reason"] = None
    upstream.script(empty)

    status, headers, _ = fetch(f"{server.api}/chat/completions", HELLO, key=account.key)

    assert (status, headers["x-credits-consumed"]) == (200, "0")
    assert account.entries() == [("grant", 10_000)]


def test_usage_that_the_provider_does_not_report_is_counted_here(
    server: Server, account: Account, upstream: Upstream
) -> None:
    silent = _using(0, 0)
    del silent["json"]["usage"]
    upstream.script(silent)

    status, headers, body = fetch(f"{server.api}/chat/completions", HELLO, key=account.key)

    assert (status, headers["x-credits-consumed"]) == (200, "1")
    usage = json.loads(
        server.stack.query("SELECT usage FROM jobs WHERE id = :id", id=headers["x-job-id"])[0][0]
    )
    assert usage["estimated"] is True
    assert usage["prompt_tokens"] > 0 and usage["completion_tokens"] > 0


def _using(prompt: int, completion: int) -> dict[str, dict[str, object]]:
    """Return a step that answers with this usage."""
    usage = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }
    message = {"role": "assistant", "content": "So be it."}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return {"json": {"id": "chatcmpl-1", "object": "chat.completion", "created": 1,
                     "model": "gpt-4.1", "choices": [choice], "usage": usage}}  # fmt: skip
