"""Retries join the job of their first try: nobody pays twice, and nobody for nothing."""

import http.client
import json
import threading
from typing import Any

import openai
import pytest
from openai import OpenAI

from tests.callers import HELLO, Callers
from tests.conftest import (
    LONG_ON_POSTGRESQL,
    ON_EVERY_DATABASE,
    ONE_DATABASE,
    Server,
    provider_settings,
)
from tests.events import STREAMED, words
from tests.servers.proxy import cutting
from tests.stack import Account, Stack, fetch, stack, wait_until
from tests.upstream import Upstream


@pytest.fixture(scope="module")
def patient(server: Server) -> str:
    """The product where a plain call is relayed after two seconds."""
    return server.stack.web(sync_wait_seconds=2)


def ask(url: str, account: Account, body: Any = HELLO, **headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    status, said, content = fetch(
        f"{url}/v1/chat/completions", body, key=account.key, headers=named
    )
    return status, said, json.loads(content) if content.strip() else None


def retry(url: str, account: Account, count: int, body: Any = HELLO) -> Any:
    return ask(url, account, body, x_stainless_retry_count=str(count))


# ---- The official client


def test_an_unmodified_sdk_gets_a_long_answer_through_short_waits_and_pays_once(
    patient: str, account: Account, upstream: Upstream
) -> None:
    upstream.script({"delay": 5})

    with OpenAI(base_url=f"{patient}/v1", api_key=account.key) as sdk:
        answer = sdk.chat.completions.create(**HELLO)  # type: ignore[call-overload]  # a dict of arguments

    assert answer.choices[0].message.content == "Hello from upstream."
    assert len(upstream.calls()) == 1
    assert len(account.jobs()) == 1
    assert account.standing() == (9_999, 0)
    # Its retries are not counted.
    _, headers, _ = fetch(f"{patient}/v1/models", key=account.key)
    assert headers["x-ratelimit-remaining-requests"] == "1999"


def test_two_identical_calls_are_two_and_their_retries_join_one_each(
    patient: str, account: Account, upstream: Upstream
) -> None:
    upstream.script(default={"hold": True})
    callers = Callers()

    callers.call(patient, account.key, times=2, headers={"x-stainless-retry-count": "0"})
    relayed = callers.replies()
    retries = Callers()
    retries.call(patient, account.key, times=2, headers={"x-stainless-retry-count": "2"})
    upstream.release()
    answers = retries.replies()

    assert [status for status, _, _ in relayed] == [503, 503]
    assert [status for status, _, _ in answers] == [200, 200]
    assert {headers["x-job-id"] for _, headers, _ in answers} == {
        headers["x-job-id"] for _, headers, _ in relayed
    }
    assert len(upstream.calls()) == 2
    assert account.standing() == (9_998, 0)


def test_the_relay_says_where_the_answer_will_be(
    patient: str, account: Account, upstream: Upstream
) -> None:
    upstream.script({"hold": True})

    status, headers, body = retry(patient, account, 0)

    assert (status, body["error"]["code"]) == (503, "job_in_progress")
    assert headers["x-job-id"] in body["error"]["message"]
    assert headers["location"] == f"/api/v1/ai/jobs/{headers['x-job-id']}"
    assert (headers["retry-after-ms"], headers["retry-after"]) == ("1", "1")
    assert headers["x-should-retry"] == "true"
    assert retry(patient, account, 1)[0] == 503
    # An SDK that has no retries left is kept waiting.
    last = Callers()
    last.call(patient, account.key, headers={"x-stainless-retry-count": "2"})
    upstream.release()
    assert [status for status, _, _ in last.replies()] == [200]
    assert len(upstream.calls()) == 1


@pytest.mark.parametrize("headers", [{}, {"prefer": "wait=1", "x_stainless_retry_count": "0"}])
def test_anybody_else_gets_newlines_and_then_the_answer(
    patient: str, account: Account, upstream: Upstream, headers: dict[str, str]
) -> None:
    upstream.script({"delay": 3})

    named = {name.replace("_", "-"): value for name, value in headers.items()}
    status, _, content = fetch(
        f"{patient}/v1/chat/completions", HELLO, key=account.key, headers=named
    )

    assert (status, content[:1]) == (200, b"\n")
    assert json.loads(content)["choices"]


def test_an_sdk_that_announces_its_time_out_is_relayed_before_it(
    server: Server, account: Account, upstream: Upstream
) -> None:
    upstream.script({"delay": 4})

    with OpenAI(base_url=server.api, api_key=account.key, timeout=2.5, max_retries=2) as sdk:
        answer = sdk.chat.completions.create(**HELLO)  # type: ignore[call-overload]  # a dict of arguments

    assert answer.choices[0].message.content == "Hello from upstream."
    assert len(upstream.calls()) == 1
    assert account.standing() == (9_999, 0)


def test_a_failure_after_the_relay_is_what_the_retry_gets(
    patient: str, account: Account, upstream: Upstream
) -> None:
    bad = {"status": 400, "json": {"error": {"message": "Bad.", "param": "messages"}}}
    upstream.script(bad | {"delay": 3})

    with (
        OpenAI(base_url=f"{patient}/v1", api_key=account.key) as sdk,
        pytest.raises(openai.BadRequestError),
    ):
        sdk.chat.completions.create(**HELLO)  # type: ignore[call-overload]  # a dict of arguments

    assert len(upstream.calls()) == 1
    assert account.standing() == (10_000, 0)


def test_an_answer_that_was_lost_on_its_way_is_fetched_by_the_retry(
    server: Server, account: Account, upstream: Upstream
) -> None:
    upstream.script({"hold": True})
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"))
    key = {"Authorization": f"Bearer {account.key}", "x-stainless-retry-count": "0"}
    connection.request("POST", "/v1/chat/completions", json.dumps(HELLO), key)
    upstream.wait(received=1)
    connection.close()
    sql = "SELECT left_at FROM jobs WHERE id = :id"
    job_id = account.jobs()[0]["id"]
    wait_until(lambda: server.stack.query(sql, id=job_id)[0][0], "the hang-up was noticed")
    upstream.release()
    wait_until(lambda: account.jobs()[0]["status"] == "completed", "the job is completed")

    status, headers, body = retry(server.url, account, 1, json.dumps(HELLO).encode())

    assert status == 200
    assert headers["x-job-id"] == job_id
    assert body["choices"]
    assert len(upstream.calls()) == 1
    assert account.standing() == (9_999, 0)


def test_a_forged_retry_count_is_free_once_and_never_again(
    server: Server, account: Account, upstream: Upstream
) -> None:
    ask(server.url, account)

    # Within ten seconds an answer may have been lost; what a retry has fetched was not.
    # When more pass here, on a slow machine, the first retry joins nothing: a fault of the product.
    assert retry(server.url, account, 1)[1]["x-job-id"] == account.jobs()[0]["id"]
    assert retry(server.url, account, 1)[1]["x-job-id"] == account.jobs()[1]["id"]

    assert len(upstream.calls()) == 2
    assert account.standing() == (9_998, 0)


def test_a_retry_of_nothing_is_a_new_request(
    server: Server, account: Account, upstream: Upstream
) -> None:
    other = HELLO | {"max_tokens": 99}
    ask(server.url, account, other)

    for count in ("1", "11", "x", "-1", "1.5"):
        status, headers, _ = ask(server.url, account, x_stainless_retry_count=count)
        assert (status, headers.get("idempotent-replayed")) == (200, None)

    assert len(account.jobs()) == 6


def test_a_retry_with_another_accounts_key_joins_nothing(
    server: Server, account: Account, upstream: Upstream
) -> None:
    upstream.script({"delay": 2})
    callers = Callers()
    callers.call(server.url, account.key)
    upstream.wait(received=1)
    stranger = server.stack.account()

    status, _, _ = retry(server.url, stranger, 1)

    assert status == 200
    assert len(stranger.jobs()) == 1
    callers.replies()


def test_a_provider_that_failed_is_asked_again_by_the_retry(
    server: Server, account: Account, upstream: Upstream
) -> None:
    late = {"status": 504, "json": {"error": {"message": "Late."}}}
    upstream.script(*[late] * 3)
    named = {"model": "openai/gpt-4.1"}

    with OpenAI(base_url=server.api, api_key=account.key) as sdk:
        answer = sdk.chat.completions.create(**HELLO | named)  # type: ignore[call-overload]  # a dict of arguments

    assert answer.choices
    assert [job["status"] for job in account.jobs()] == ["failed", "completed"]
    assert account.standing() == (9_999, 0)


def test_a_stream_that_failed_before_its_first_chunk_is_tried_again(
    server: Server, account: Account, upstream: Upstream
) -> None:
    failing = {"status": 400, "json": {"error": {"message": "No.", "param": "messages"}}}
    upstream.script(failing)

    first = fetch(
        f"{server.api}/chat/completions",
        STREAMED,
        key=account.key,
        headers={"x-stainless-retry-count": "0"},
    )
    again = fetch(
        f"{server.api}/chat/completions",
        STREAMED,
        key=account.key,
        headers={"x-stainless-retry-count": "1"},
    )

    assert (first[0], again[0]) == (400, 200)
    assert len(upstream.calls()) == 2
    assert account.standing() == (9_999, 0)


def test_a_failure_that_the_caller_was_told_of_is_tried_again_however_soon(
    server: Server, account: Account, upstream: Upstream
) -> None:
    upstream.script({"status": 400, "json": {"error": {"message": "No.", "param": "messages"}}})

    statuses = [retry(server.url, account, count)[0] for count in (0, 1)]

    assert statuses == [400, 200]
    assert len(upstream.calls()) == 2


# ---- A key of the caller's own


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


# ---- Disasters


@ONE_DATABASE
@pytest.mark.slow
def test_a_proxy_that_cuts_is_no_hindrance_and_neither_is_a_workers_death(
    fresh_stack: Stack, upstream: Upstream
) -> None:
    upstream.script({"delay": 60})
    fresh_stack.web(sync_wait_seconds=0)
    doomed, account = fresh_stack.worker(), fresh_stack.account()
    fresh_stack.worker()

    def kill() -> None:
        upstream.wait(received=1)
        running = fresh_stack.query("SELECT worker FROM jobs")[0][0]
        next(w for w in fresh_stack.workers if f"-{w.pid}-" in running).kill()

    threading.Thread(target=kill).start()
    # The first two connections are cut; the third lasts until the lease of the dead is over.
    with (
        cutting(fresh_stack.ports[0], seconds=10) as port,
        OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key=account.key) as sdk,
    ):
        answer = sdk.chat.completions.create(**HELLO)  # type: ignore[call-overload]  # a dict of arguments

    assert answer.choices[0].message.content == "Hello from upstream."
    assert doomed.child.poll() is not None or fresh_stack.workers[1].child.poll() is not None
    assert len(account.jobs()) == 1
    assert account.standing() == (999, 0)


@LONG_ON_POSTGRESQL
@pytest.mark.slow
def test_a_workers_death_between_a_call_and_its_retry_costs_nothing(
    fresh_stack: Stack, upstream: Upstream
) -> None:
    upstream.script({"delay": 60})
    web, doomed = fresh_stack.web(sync_wait_seconds=2), fresh_stack.worker()
    account = fresh_stack.account()

    assert retry(web, account, 0)[0] == 503
    doomed.kill()
    fresh_stack.worker()
    # Until the lease is over nobody takes the job up, so this one may be relayed, too.
    while (reply := retry(web, account, 1))[0] == 503:
        fresh_stack.change("UPDATE jobs SET joined = 0")

    assert reply[0] == 200
    assert account.standing() == (999, 0)
    assert len(account.jobs()) == 1


@pytest.mark.slow
def test_a_relayed_call_that_is_not_retried_is_cancelled_while_queued(
    fresh_stack: Stack, upstream: Upstream
) -> None:
    web = fresh_stack.web(sync_wait_seconds=1)
    account = fresh_stack.account()
    assert retry(web, account, 0)[0] == 503
    fresh_stack.change("UPDATE jobs SET left_at = left_at - 60")

    fresh_stack.worker()
    wait_until(lambda: account.jobs()[0]["status"] in ("cancelled", "completed"), "it has ended")

    assert account.standing()[1] == 0


def test_sync_relay_can_be_switched_off(upstream: Upstream) -> None:
    with stack(**provider_settings(upstream), sync_wait_seconds=1, sync_relay=0) as own:
        url, account = own.web(), own.account()
        own.worker()
        upstream.script({"delay": 2})

        status, _, content = fetch(
            f"{url}/v1/chat/completions",
            HELLO,
            key=account.key,
            headers={"x-stainless-retry-count": "0"},
        )

    assert (status, content[:1]) == (200, b"\n")
