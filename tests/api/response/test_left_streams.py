"""Clients that hang up on a stream, and those that come back to one."""

import http.client
import json

import pytest
import redis

from tests.api.response.streamed import TRAIL, client, ended
from tests.callers import HELLO
from tests.conftest import ON_SQLITE, ONE_DATABASE, Server
from tests.events import STREAMED, at_once, follow, numbered, stream, trail, value, words
from tests.stack import Account, Stack, fetch, wait_until
from tests.upstream import Upstream, said

# ---- Hanging up


def test_a_client_that_hangs_up_between_chunks_stops_the_provider_and_pays_for_what_was_said(
    server: Server, account: Account, upstream: Upstream
) -> None:
    # Nothing follows the third word for a minute: only the hang-up itself can be noticed.
    events = [said(role="assistant", content=""), *[said(content=f"w{n} ") for n in range(3)]]
    upstream.script({"events": [at_once(events), said(content="never")], "gap": 60})

    with client(server, account) as sdk:
        answer = sdk.chat.completions.create(**STREAMED)
        for number, _ in enumerate(answer):
            if number == 3:
                break
        answer.close()
    upstream.wait(aborted=1)

    (found,) = account.jobs()
    wait_until(lambda: account.jobs()[0]["status"] == "cancelled", "the job is cancelled")
    assert account.jobs()[0]["charged"] == 1
    assert account.standing() == (9999, 0)
    usage = server.stack.query("SELECT usage FROM jobs WHERE id = :id", id=found["id"])[0][0]
    assert json.loads(usage)["estimated"] is True
    assert json.loads(usage)["completion_tokens"] >= 3


def test_a_stream_that_is_to_finish_does_so_without_its_client(
    server: Server, account: Account, upstream: Upstream
) -> None:
    upstream.script(words(20, gap=0.05))

    answer = stream(server.url, account.key, STREAMED | {"on_disconnect": "finish"})
    answer.events(most=3)
    answer.close()

    found = ended(server, account, answer.job_id)
    assert found["status"] == "completed"
    assert found["result"]["choices"][0]["message"]["content"].endswith("w19 ")
    assert upstream.counts()["aborted"] == 0


def test_a_plain_call_may_end_with_its_client_too(
    server: Server, account: Account, upstream: Upstream
) -> None:
    upstream.script({"delay": 60})
    connection = http.client.HTTPConnection("127.0.0.1", server.stack.ports[0])
    connection.request(
        "POST",
        "/v1/chat/completions",
        json.dumps(HELLO | {"on_disconnect": "cancel"}),
        {"Authorization": f"Bearer {account.key}", "Content-Type": "application/json"},
    )
    upstream.wait(received=1)
    connection.close()

    upstream.wait(aborted=1)
    wait_until(lambda: account.jobs()[0]["status"] == "cancelled", "the job is cancelled")
    assert account.standing() == (9999, 0)


def test_a_stream_hung_up_on_while_queued_costs_nothing(
    fresh_stack: Stack, upstream: Upstream
) -> None:
    web = fresh_stack.web(stream_commit_seconds=0.1)
    account = fresh_stack.account()

    answer = stream(web, account.key)
    answer.close()

    wait_until(lambda: account.jobs()[0]["status"] == "cancelled", "the job is cancelled")
    assert account.standing() == (1000, 0)
    assert upstream.calls() == []


# ---- Coming back


def test_a_stream_that_was_cut_goes_on_where_it_was_cut(
    server: Server, account: Account, upstream: Upstream
) -> None:
    """Whatever the place, through whichever web process, and again and again."""
    other = server.stack.web()
    upstream.script(words(15))
    whole = stream(server.url, account.key)
    expected = whole.events()

    for after in range(len(expected) + 1):
        rest = follow(other, account.key, whole.job_id, after)
        found = numbered(rest.events())

        assert rest.status == 200
        assert list(found) == list(range(after + 1, len(expected) + 1))
        assert expected[:after] + list(found.values()) == expected


def test_a_reader_can_join_a_stream_that_runs(
    server: Server, account: Account, upstream: Upstream
) -> None:
    other = server.stack.web()
    upstream.script(words(30, gap=0.03))
    answer = stream(server.url, account.key)
    begun = answer.events(most=5)

    readers = [follow(url, account.key, answer.job_id) for url in [other, server.url] * 10]
    late = [follow(other, account.key, answer.job_id, after) for after in (1, 3, 5)]
    expected = begun + answer.events()

    for reader in readers:
        assert list(numbered(reader.events()).values()) == expected
    for reader, after in zip(late, (1, 3, 5), strict=True):
        assert list(numbered(reader.events()).values()) == expected[after:]


def test_the_trail_says_what_became_of_a_job(server: Server, account: Account) -> None:
    answer = stream(server.url, account.key)
    answer.events()

    events = follow(server.url, account.key, answer.job_id).events()

    assert [name for name, _ in trail(events)] == TRAIL
    settled = trail(events)[-1][1]
    assert (settled["status"], settled["credits_consumed"]) == ("completed", 1)


def test_a_plain_job_has_a_trail_and_no_chunks(server: Server, account: Account) -> None:
    _, headers, _ = fetch(f"{server.url}/v1/chat/completions", HELLO, key=account.key)

    events = follow(server.url, account.key, headers["x-job-id"]).events()

    assert [name for name, _ in trail(events)] == TRAIL
    assert numbered(events) == {}


def test_a_cancelled_stream_shows_what_was_produced_and_then_the_error(
    server: Server, account: Account, upstream: Upstream
) -> None:
    upstream.script(words(1000, gap=0.02))
    answer = stream(server.url, account.key)
    begun = answer.events(most=4)
    answer.close()
    ended(server, account, answer.job_id)

    found = list(numbered(follow(server.url, account.key, answer.job_id).events()).values())

    assert found[: len(begun)] == begun
    assert value(found[-1])["error"]["code"] == "job_cancelled"


@pytest.mark.parametrize("how", ["failed", "cancelled"])
def test_an_end_that_was_read_is_not_read_again(
    server: Server, account: Account, upstream: Upstream, how: str
) -> None:
    broken = {"events": [said(role="assistant", content="Hel"), said(content="lo")]}
    upstream.script(broken if how == "failed" else words(1000, gap=0.02))
    answer = stream(server.url, account.key)
    answer.events(most=3)
    answer.close()
    ended(server, account, answer.job_id)
    whole = numbered(follow(server.url, account.key, answer.job_id).events())

    for after in range(len(whole) + 2):
        rest = follow(server.url, account.key, answer.job_id, after).events()
        assert list(numbered(rest)) == list(range(after + 1, len(whole) + 1))
        assert trail(rest)[-1][0] == "job.settled"


@ONE_DATABASE
def test_a_cancelled_stream_whose_log_is_gone_is_a_410_too(
    fresh_stack: Stack, upstream: Upstream
) -> None:
    upstream.script(words(1000, gap=0.02))
    web = fresh_stack.web()
    fresh_stack.worker()
    account = fresh_stack.account()
    answer = stream(web, account.key)
    answer.events(most=4)
    answer.close()
    wait_until(lambda: fresh_stack.unfinished() == 0, "the job has ended")
    with redis.Redis.from_url(fresh_stack.valkey.url) as connection:
        connection.flushall()

    status, _, body = fetch(f"{web}/api/v1/ai/jobs/{answer.job_id}/events", key=account.key)

    assert (status, json.loads(body)["error"]["code"]) == (410, "stream_log_gone")


def test_a_browser_comes_back_with_the_last_events_id(server: Server, account: Account) -> None:
    answer = stream(server.url, account.key)
    expected = answer.events()

    rest = follow(
        server.url, account.key, answer.job_id, after=1, headers={"Last-Event-ID": "3"}
    ).events()

    assert list(numbered(rest)) == list(range(4, len(expected) + 1))


@ON_SQLITE
@pytest.mark.parametrize("after", ["-1", "x", "1.5", "99999999999"])
def test_a_number_that_is_none_is_refused(server: Server, account: Account, after: str) -> None:
    answer = stream(server.url, account.key)
    answer.events()

    status, _, body = fetch(
        f"{server.api}/jobs/{answer.job_id}/events?starting_after={after}", key=account.key
    )

    assert status == 400
    assert json.loads(body)["error"]["param"] == "starting_after"


def test_another_accounts_stream_is_not_there(server: Server, account: Account) -> None:
    answer = stream(server.url, account.key)
    answer.events()
    stranger = server.stack.account()

    assert fetch(f"{server.api}/jobs/{answer.job_id}/events", key=stranger.key)[0] == 404


@ONE_DATABASE
def test_a_log_that_is_gone_is_a_410(fresh_stack: Stack, upstream: Upstream) -> None:
    web = fresh_stack.web()
    fresh_stack.worker(stream_log_bytes=2_000)
    account = fresh_stack.account()
    upstream.script(words(200), words(5))
    first = stream(web, account.key)
    first.events()

    status, _, body = fetch(f"{web}/api/v1/ai/jobs/{first.job_id}/events", key=account.key)

    assert status == 410
    assert json.loads(body)["error"]["code"] == "stream_log_gone"
