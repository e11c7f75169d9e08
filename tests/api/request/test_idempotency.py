"""A key of the caller's own names a job: whoever uses it again joins that."""

import http.client
import json

import pytest

from tests.api.request.asking import ask
from tests.callers import HELLO, Callers
from tests.conftest import ON_EVERY_DATABASE, Server
from tests.events import STREAMED, words
from tests.stack import Account, fetch
from tests.upstream import Upstream


def test_a_key_of_ones_own_names_the_job_for_a_day(
    server: Server, account: Account, upstream: Upstream
) -> None:
    first = ask(server.url, account, idempotency_key="order-7")
    again = ask(server.url, account, idempotency_key="order-7")

    assert (first[0], again[0]) == (200, 200)
    assert first[2] == again[2]
    assert first[1]["x-job-id"] == again[1]["x-job-id"]
    assert "idempotent-replayed" not in first[1]
    assert again[1]["idempotent-replayed"] == "true"
    assert again[1]["x-ratelimit-remaining-requests"] == "1999"
    assert len(upstream.calls()) == 1
    assert account.standing() == (9_999, 0)


def test_another_body_under_the_same_key_is_refused(
    server: Server, account: Account, upstream: Upstream
) -> None:
    ask(server.url, account, idempotency_key="order-8")

    status, headers, body = ask(server.url, account, HELLO | {"n": 2}, idempotency_key="order-8")

    assert (status, body["error"]["code"]) == (422, "idempotency_key_reused")
    assert headers["x-ratelimit-remaining-requests"] == "1999"


def test_the_same_body_at_another_endpoint_is_another_request(
    server: Server, account: Account, upstream: Upstream
) -> None:
    ask(server.url, account, idempotency_key="order-9")

    status, _, body = fetch(
        f"{server.api}/images/generations",
        HELLO,
        key=account.key,
        headers={"Idempotency-Key": "order-9"},
    )

    assert (status, json.loads(body)["error"]["code"]) == (422, "idempotency_key_reused")
    assert len(upstream.calls()) == 1
    assert len(upstream.calls()) == 1


def test_keys_belong_to_api_keys(server: Server, account: Account) -> None:
    stranger = server.stack.account()

    for caller in (account, stranger):
        assert "idempotent-replayed" not in ask(server.url, caller, idempotency_key="same")[1]


@ON_EVERY_DATABASE
def test_twenty_at_once_under_one_key_are_one_call(
    server: Server, account: Account, upstream: Upstream
) -> None:
    upstream.script(default={"delay": 1})
    callers = Callers()

    callers.call(server.url, account.key, times=20, headers={"Idempotency-Key": "once"})
    replies = callers.replies()

    assert {status for status, _, _ in replies} == {200}
    assert len({headers["x-job-id"] for _, headers, _ in replies}) == 1
    assert len(upstream.calls()) == 1
    assert account.standing() == (9_999, 0)
    # Those who came in the same moment are retries, too: they do not count.
    _, headers, _ = fetch(f"{server.url}/v1/jobs", key=account.key)
    assert headers["x-ratelimit-remaining-requests"] == "1999"


@ON_EVERY_DATABASE
def test_other_requests_under_the_same_key_at_once_get_no_answer_of_anothers(
    server: Server, account: Account, upstream: Upstream
) -> None:
    upstream.script(default={"delay": 1})
    callers = Callers()

    for number in range(20):
        body = HELLO | {"max_tokens": 100 + number}
        callers.call(server.url, account.key, body=body, headers={"Idempotency-Key": "race"})
    statuses = sorted(status for status, _, _ in callers.replies())

    assert statuses == [200] + [422] * 19
    assert len(upstream.calls()) == 1


@ON_EVERY_DATABASE
def test_many_joined_calls_do_not_keep_others_from_being_admitted(
    server: Server, account: Account, upstream: Upstream
) -> None:
    upstream.script(default={"hold": True})
    callers = Callers()
    callers.call(server.url, account.key, times=40, headers={"Idempotency-Key": "crowd"})
    upstream.wait(received=1)

    status, _, _ = ask(server.url, account, HELLO | {"model": "no-such-model"})

    assert status == 404
    assert account.jobs()[0]["status"] == "in_progress"
    upstream.release()
    assert {status for status, _, _ in callers.replies()} == {200}
    assert len(upstream.calls()) == 1


def test_a_reader_that_joined_and_leaves_does_not_end_the_stream_for_others(
    server: Server, account: Account, upstream: Upstream
) -> None:
    upstream.script(words(8, gap=0.5))
    key = {"Idempotency-Key": "shared"}
    callers = Callers()
    callers.call(server.url, account.key, body=STREAMED, headers=key)
    upstream.wait(received=1)

    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=30)
    connection.request(
        "POST",
        "/v1/chat/completions",
        json.dumps(STREAMED),
        key | {"Authorization": f"Bearer {account.key}"},
    )
    reply = connection.getresponse()
    assert reply.read(1)
    connection.sock.close() if connection.sock else reply.close()
    ((status, _, content),) = callers.replies()

    assert status == 200
    assert content.endswith(b"data: [DONE]\n\n")
    assert len(upstream.calls()) == 1


def test_a_key_joins_a_job_that_is_fetched_later_too(
    server: Server, account: Account, upstream: Upstream
) -> None:
    body = HELLO | {"background": True}

    first, again = (ask(server.url, account, body, idempotency_key="later") for _ in range(2))

    assert (first[0], again[0]) == (202, 202)
    assert first[2]["id"] == again[2]["id"]
    assert len(account.jobs()) == 1


@pytest.mark.parametrize(
    "headers", [{"idempotency_key": "plain"}, {"x_stainless_retry_count": "1"}]
)
def test_a_plain_call_that_joins_a_background_job_gets_its_answer(
    server: Server, account: Account, upstream: Upstream, headers: dict[str, str]
) -> None:
    upstream.script({"delay": 1})
    first = ask(server.url, account, prefer="respond-async", **headers)

    again = ask(server.url, account, **headers)

    assert (first[0], again[0]) == (202, 200)
    assert again[1]["x-job-id"] == first[2]["id"]
    assert again[2]["object"] == "chat.completion"
    assert len(upstream.calls()) == 1
    assert account.standing() == (9_999, 0)


def test_a_streamed_call_that_joins_a_background_job_gets_its_stream(
    server: Server, account: Account, upstream: Upstream
) -> None:
    upstream.script({"delay": 1})
    url, key = f"{server.api}/chat/completions", {"Idempotency-Key": "streamed"}
    first = fetch(url, STREAMED, key=account.key, headers=key | {"Prefer": "respond-async"})

    again = fetch(url, STREAMED, key=account.key, headers=key)

    assert (first[0], again[0]) == (202, 200)
    assert again[2].endswith(b"data: [DONE]\n\n")


def test_a_stream_is_joined_from_its_beginning(
    server: Server, account: Account, upstream: Upstream
) -> None:
    streams = [
        fetch(
            f"{server.api}/chat/completions",
            STREAMED,
            key=account.key,
            headers={"Idempotency-Key": "stream"},
        )
        for _ in range(2)
    ]

    assert streams[0][2] == streams[1][2]
    assert streams[1][2].endswith(b"data: [DONE]\n\n")
    assert len(upstream.calls()) == 1
    assert account.standing() == (9_999, 0)


def test_a_key_that_is_too_long_is_refused(server: Server, account: Account) -> None:
    status, headers, body = ask(server.url, account, idempotency_key="x" * 256)

    assert (status, body["error"]["code"]) == (400, "invalid_parameter")
    assert headers["x-ratelimit-remaining-requests"] == "2000"
