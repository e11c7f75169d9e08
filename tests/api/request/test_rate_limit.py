"""Requests per hour: exact, per account, and honest about when to come back."""

import json

import redis

from tests.api.server.test_http_edges import PATH, post, raw
from tests.callers import HELLO, Callers
from tests.conftest import ON_SQLITE, Server
from tests.stack import Account, fetch


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


@ON_SQLITE
def test_a_full_window_refuses_before_the_body_unless_it_may_be_a_retrys(server: Server) -> None:
    account = server.stack.account(plan="free")
    named = {"Idempotency-Key": "one"}
    first = fetch(f"{server.api}/chat/completions", HELLO, key=account.key, headers=named)
    fill(server, account, "likedo:window", 199)
    body = json.dumps(HELLO).encode()

    # No byte of these bodies is ever sent.
    refused = [
        raw(server.stack.ports[0], head(account, path))
        for path in ("chat/completions", "images/generations", "batches", "files")
    ]
    joined = fetch(f"{server.api}/chat/completions", body, key=account.key, headers=named)
    new = fetch(
        f"{server.api}/chat/completions",
        HELLO | {"seed": 1},
        key=account.key,
        headers={"x-stainless-retry-count": "1"},
    )

    assert [status for status, _, _ in refused] == [429] * 4
    assert {said["connection"] for _, said, _ in refused} == {"close"}
    assert (joined[0], joined[2]) == (200, first[2])
    assert new[0] == 429


@ON_SQLITE
def test_estimates_have_a_window_of_their_own_ten_times_as_large(server: Server) -> None:
    account = server.stack.account(plan="free")
    fill(server, account, "likedo:window:estimates", 1999)

    last = fetch(f"{server.api}/estimate", HELLO, key=account.key)
    status, headers, body = fetch(f"{server.api}/estimate", HELLO, key=account.key)
    call = fetch(f"{server.api}/chat/completions", HELLO, key=account.key)

    assert (last[0], last[1]["x-ratelimit-remaining-requests"]) == (200, "200")
    assert (status, json.loads(body)["error"]["code"]) == (429, "rate_limit_exceeded")
    assert "2000 estimates per hour" in json.loads(body)["error"]["message"]
    assert 3500 < int(headers["retry-after"]) <= 3601
    assert (call[0], call[1]["x-ratelimit-remaining-requests"]) == (200, "199")


def fill(server: Server, account: Account, window: str, times: int) -> None:
    """Make a window of the account hold that many requests, made now."""
    sql = "SELECT id FROM accounts WHERE name = :name"
    account_id = server.stack.query(sql, name=account.name)[0][0]
    with redis.Redis(port=server.stack.valkey.port) as connection:
        second, microsecond = connection.time()
        marks = [second * 1_000_000 + microsecond] * times
        connection.lpush(f"{window}:{account_id}", *marks)


def head(account: Account, path: str) -> bytes:
    is_file = path == "files"
    content_type = "multipart/form-data; boundary=b" if is_file else "application/json"
    return (
        post(account.key, "Content-Length: 100000")
        .replace(PATH.encode(), f"/v1/{path}".encode())
        .replace(b"application/json", content_type.encode())
    )
