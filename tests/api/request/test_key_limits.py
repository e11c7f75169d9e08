"""A key is good for what its owner made it for, and for nothing else."""

import json
from typing import Any

from tests.batches import Batches, chats, counts, line, the_books_are_right
from tests.callers import HELLO, Callers, fetch_from
from tests.conftest import ON_SQLITE, Server
from tests.stack import fetch
from tests.upstream import Upstream


def refusal(reply: Any) -> tuple[int, str, str, str | None, str]:
    """Return status, type, code, param and `x-should-retry` of an error."""
    status, headers, body = reply
    error = json.loads(body)["error"]
    return status, error["type"], error["code"], error["param"], headers["x-should-retry"]


@ON_SQLITE
def test_a_key_names_no_models_but_its_own(server: Server, upstream: Upstream) -> None:
    account = server.stack.account(models=["gpt-4o", "gpt-image-1"])
    key, mine = account.key, HELLO | {"model": "gpt-4o"}
    fallback = mine | {"fallbacks": ["gpt-4o", "gpt-4"]}
    images = f"{server.api}/images/generations"

    replies = {
        "chat": fetch(f"{server.api}/chat/completions", HELLO, key=key),
        "unknown": fetch(f"{server.api}/chat/completions", HELLO | {"model": "a/b"}, key=key),
        "stream": fetch(f"{server.api}/chat/completions", HELLO | {"stream": True}, key=key),
        "estimate": fetch(f"{server.api}/estimate", HELLO, key=key),
        "model": fetch(f"{server.api}/models/gpt-4", key=key),
        "image": fetch(images, {"model": "dall-e-3", "prompt": "A sunset."}, key=key),
    }
    with_fallback = fetch(f"{server.api}/chat/completions", fallback, key=key)
    listed = json.loads(fetch(f"{server.api}/models", key=key)[2])["data"]
    batches = Batches(server.url, account)
    batch = batches.run([line("mine", mine), line("other", HELLO), line("both", fallback)])
    batches.close()

    expected = (403, "permission_error", "model_not_allowed", "model", "false")
    assert {refusal(reply) for reply in replies.values()} == {expected}
    assert refusal(with_fallback)[2:4] == ("model_not_allowed", "fallbacks[1]")
    assert {model["id"] for model in listed} == {"gpt-4o", "gpt-image-1"}
    assert batch.status == "failed" and batch.errors is not None and batch.errors.data is not None
    assert [(each.line, each.code, each.param) for each in batch.errors.data] == [
        (2, "model_not_allowed", "body.model"),
        (3, "model_not_allowed", "body.fallbacks[1]"),
    ]
    assert upstream.calls() == []
    assert fetch(f"{server.api}/chat/completions", mine, key=key)[0] == 200
    assert fetch(f"{server.api}/models/gpt-4o", key=key)[0] == 200


@ON_SQLITE
def test_a_key_is_used_from_its_own_addresses(server: Server) -> None:
    account = server.stack.account(addresses=["127.0.0.8/31", "2001:db8::/32"])
    url = f"{server.api}/credits"

    statuses = {
        address: fetch_from(address, url, account.key, X_Forwarded_For="127.0.0.8")[0]
        for address in ("127.0.0.1", "127.0.0.7", "127.0.0.8", "127.0.0.9", "127.0.0.10")
    }

    allowed = [address for address, status in statuses.items() if status == 200]
    assert allowed == ["127.0.0.8", "127.0.0.9"]
    expected = (403, "permission_error", "address_not_allowed", None, "false")
    assert refusal(fetch(url, key=account.key)) == expected


@ON_SQLITE
def test_a_key_has_an_hour_of_its_own_within_its_accounts(server: Server) -> None:
    account = server.stack.account(plan="free", requests_per_hour=3)
    bad = HELLO | {"temperature": 9}
    url = f"{server.api}/chat/completions"

    replies = [fetch(url, bad, key=account.key) for _ in range(5)]
    windows = [headers["x-ratelimit-remaining-requests"] for _, headers, _ in replies]
    others = server.stack.run("keys", "create", "--account", account.name, "--json")["key"]
    _, headers, _ = fetch(f"{server.api}/credits", key=others)

    assert [status for status, _, _ in replies] == [400, 400, 400, 429, 429]
    assert windows == ["2", "1", "0", "0", "0"]
    assert refusal(replies[-1])[1:3] == ("rate_limit_error", "rate_limit_exceeded")
    assert replies[-1][1]["x-ratelimit-limit-requests"] == "3"
    assert 3500 < int(replies[-1][1]["retry-after"]) <= 3600
    # What the key's own hour refused does not count in the account's.
    assert headers["x-ratelimit-remaining-requests"] == "197"


def test_calls_and_lines_of_a_key_cost_no_more_than_its_limit(
    server: Server, upstream: Upstream
) -> None:
    account = server.stack.account(credit_limit=7)
    dear = [each | {"body": each["body"] | {"max_tokens": 900}} for each in chats(8)]
    batches = Batches(server.url, account)

    # Each holds 3 credits and costs 1: as long as 3 are left, another one begins.
    batch = batches.run(dear)
    callers = Callers(20)
    callers.call(server.url, account.key, times=20)  # These hold 1 and cost 1.
    replies = callers.replies()
    estimate = json.loads(fetch(f"{server.api}/estimate", HELLO, key=account.key)[2])

    assert (batch.status, counts(batch)) == ("completed", (8, 5, 3))
    assert {each["error"]["code"] for each in batches.errors(batch)} == {"key_limit_reached"}
    batches.close()
    assert sorted(status for status, _, _ in replies) == [200] * 2 + [402] * 18
    expected = (402, "insufficient_quota", "key_limit_reached", None, "false")
    assert {refusal(reply) for reply in replies if reply[0] == 402} == {expected}
    assert (estimate["available"], estimate["affordable"]) == (0, False)
    assert account.standing() == (993, 0)
    the_books_are_right(account, 1000)
    (listed,) = server.stack.run("keys", "list", "--account", account.name, "--json")
    assert (listed["limit"], listed["spent"], listed["spent_today"]) == (7, 7, 7)
