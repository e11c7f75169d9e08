"""Retries join the job of their first try: nobody pays twice, and nobody for nothing."""

import http.client
import json

import openai
import pytest
from openai import OpenAI

from tests.api.request.asking import ask, retry
from tests.callers import HELLO, Callers
from tests.conftest import Server
from tests.events import STREAMED
from tests.stack import Account, fetch, wait_until
from tests.upstream import Upstream


@pytest.fixture(scope="module")
def patient(server: Server) -> str:
    """The product where a plain call is relayed after two seconds."""
    return server.stack.web(sync_wait_seconds=2)


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
