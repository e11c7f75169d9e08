"""Requests per hour: exact, per account, and honest about when to come back."""

import json

from tests.callers import HELLO, Callers
from tests.conftest import Server
from tests.stack import fetch


def test_a_free_account_gets_200_requests_and_not_one_more(server: Server) -> None:
    account = server.stack.account(credits=1000, plan="free")
    bad = HELLO | {"temperature": 9}

    callers = Callers(50)
    callers.call(server.url, account.key, times=210, body=bad)
    statuses = sorted(status for status, _, _ in callers.replies())
    status, headers, body = fetch(f"{server.api}/chat/completions", HELLO, key=account.key)

    # Refused for their parameters, they count; refused by the limit, they do not.
    assert statuses == [400] * 200 + [429] * 10
    error = json.loads(body)["error"]
    assert (status, error["type"], error["code"]) == (
        429,
        "rate_limit_error",
        "rate_limit_exceeded",
    )
    assert 3500 < int(headers["retry-after"]) <= 3600
    assert headers["x-should-retry"] == "true"
    assert headers["x-ratelimit-limit-requests"] == "200"
    assert headers["x-ratelimit-remaining-requests"] == "0"
    assert account.standing() == (1000, 0)


def test_all_keys_of_an_account_share_its_window_and_reading_is_free(server: Server) -> None:
    account = server.stack.account(plan="free")
    second = server.stack.run("keys", "create", "--account", account.name, "--json")["key"]

    fetch(f"{server.api}/chat/completions", HELLO, key=account.key)
    for path in ("models", "credits", "jobs/job_none"):
        fetch(f"{server.api}/{path}", key=account.key)
    _, headers, _ = fetch(f"{server.api}/credits", key=second)

    assert headers["x-ratelimit-remaining-requests"] == "199"


def test_a_revoked_key_is_refused_at_once(server: Server) -> None:
    account = server.stack.account()
    assert fetch(f"{server.api}/credits", key=account.key)[0] == 200

    server.stack.run("keys", "revoke", str(account.key_id))

    assert fetch(f"{server.api}/credits", key=account.key)[0] == 401


def test_a_suspended_accounts_keys_are_refused_at_once(server: Server) -> None:
    account = server.stack.account()
    assert fetch(f"{server.api}/credits", key=account.key)[0] == 200

    server.stack.run("accounts", "suspend", account.name)

    assert fetch(f"{server.api}/credits", key=account.key)[0] == 401
