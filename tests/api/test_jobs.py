"""Jobs: asked for, listed, cancelled, accounted for, and estimated before they are."""

import json
from typing import Any

import pytest

from tests.callers import HELLO, Callers
from tests.conftest import ON_SQLITE, Server
from tests.events import STREAMED, words
from tests.stack import Account, fetch, wait_until
from tests.upstream import Upstream

BACKGROUND = HELLO | {"background": True}
HELD = {"delay": 60}


def post(server: Server, account: Account, path: str, body: Any = None, **headers: str) -> Any:
    """Return status, headers and JSON of a POST; `prefer` and the like are headers."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    data = b"" if body is None else body
    status, said, content = fetch(
        f"{server.api}{path}", data, key=account.key, headers=named, method="POST"
    )
    return status, said, json.loads(content)


def chat(server: Server, account: Account, body: Any = BACKGROUND, **headers: str) -> Any:
    return post(server, account, "/chat/completions", body, **headers)


def get(server: Server, account: Account, path: str) -> Any:
    status, _, content = fetch(f"{server.api}{path}", key=account.key)
    return status, json.loads(content)


def ended(server: Server, account: Account, job_id: str) -> Any:
    """Wait for a job's end and return it."""

    def is_over() -> bool:
        return get(server, account, f"/jobs/{job_id}")[1]["status"] in ("completed", "failed")

    wait_until(is_over, "the job has ended")
    return get(server, account, f"/jobs/{job_id}")[1]


# ---- Coming back for it


@pytest.mark.parametrize("how", ["background", "prefer"])
def test_who_asks_for_a_job_gets_one_and_comes_back_for_its_answer(
    server: Server, account: Account, upstream: Upstream, how: str
) -> None:
    if how == "background":
        status, headers, job = chat(server, account)
    else:
        status, headers, job = chat(server, account, HELLO, prefer="respond-async, wait=10")

    assert status == 202
    assert headers["location"] == f"/api/v1/ai/jobs/{job['id']}"
    assert headers["x-job-id"] == job["id"]
    assert int(headers["retry-after"]) >= 1
    assert headers.get("preference-applied") == ("respond-async" if how == "prefer" else None)
    assert (job["object"], job["kind"]) == ("job", "chat")
    # A worker may be that quick.
    assert job["status"] in ("queued", "in_progress", "completed")
    assert job["credits_held"] > 0
    job = ended(server, account, job["id"])
    assert job["result"]["choices"][0]["message"]["content"] == "Hello from upstream."
    assert job["credits_consumed"] == job["result"]["credits_consumed"] == 1
    assert "background" not in upstream.calls()[0]["body"]
    assert account.standing() == (9_999, 0)


def test_an_asynchronous_failure_is_in_the_job(
    server: Server, account: Account, upstream: Upstream
) -> None:
    upstream.script({"status": 400, "json": {"error": {"message": "No.", "param": "messages"}}})

    _, _, job = chat(server, account)

    job = ended(server, account, job["id"])
    assert (job["status"], job["error"]["code"]) == ("failed", "invalid_parameter")
    assert job["result"] is None
    assert account.standing() == (10_000, 0)


def test_an_asynchronous_stream_is_read_as_events(
    server: Server, account: Account, upstream: Upstream
) -> None:
    status, _, job = chat(server, account, STREAMED | {"background": True})

    assert status == 202
    _, _, content = fetch(f"{server.api}/jobs/{job['id']}/events", key=account.key)
    assert b"Hello" in content and b"[DONE]" in content and b"job.settled" in content
    assert ended(server, account, job["id"])["status"] == "completed"


@pytest.mark.slow
def test_an_asynchronous_stream_needs_nobody_to_listen(
    server: Server, account: Account, upstream: Upstream
) -> None:
    # Longer than a stream whose web process has died would be let live.
    upstream.script(words(15, gap=1))

    _, _, job = chat(server, account, STREAMED | {"background": True})

    job = ended(server, account, job["id"])
    assert job["status"] == "completed"
    assert account.standing() == (9_999, 0)


@ON_SQLITE
@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"webhook_url": "https://example.com/hook"}, "webhook_url"),
        ({"background": True, "webhook_url": "ftp://example.com"}, "webhook_url"),
        ({"background": True, "webhook_url": "https://user@example.com/"}, "webhook_url"),
        ({"background": True, "webhook_url": "not a url"}, "webhook_url"),
        ({"background": True, "webhook_url": 7}, "webhook_url"),
        ({"background": "yes"}, "background"),
    ],
)
def test_what_an_asynchronous_request_cannot_be_is_refused(
    server: Server, account: Account, more: dict[str, Any], param: str
) -> None:
    status, _, body = chat(server, account, HELLO | more)

    assert (status, body["error"]["param"]) == (400, param)
    assert account.standing() == (10_000, 0)


# ---- Lists


def test_jobs_are_listed_newest_first_and_page_by_page(server: Server, account: Account) -> None:
    ids = [chat(server, account)[2]["id"] for _ in range(5)]
    for job_id in ids:
        ended(server, account, job_id)

    _, first = get(server, account, "/jobs?limit=3")
    _, second = get(server, account, f"/jobs?limit=2&after={first['last_id']}")

    assert [job["id"] for job in first["data"] + second["data"]] == ids[::-1]
    assert (first["has_more"], second["has_more"]) == (True, False)
    assert first["data"][0]["result"] is None
    assert first["object"] == "list"


def test_a_list_can_be_narrowed(server: Server, account: Account, upstream: Upstream) -> None:
    upstream.script({"status": 400, "json": {"error": {"message": "No."}}})
    failed = ended(server, account, chat(server, account)[2]["id"])["id"]
    completed = ended(server, account, chat(server, account)[2]["id"])["id"]

    def ids(query: str) -> list[str]:
        return [job["id"] for job in get(server, account, f"/jobs?{query}")[1]["data"]]

    assert ids("status=failed") == [failed]
    assert ids("status=completed&kind=chat") == [completed]
    assert ids("kind=image") == []


@ON_SQLITE
def test_invalid_list_parameters_are_refused_by_name(
    server: Server, account: Account, subtests: pytest.Subtests
) -> None:
    limits = ["0", "", "x", "-1", "101", "%C2%B2"]
    # The first nine digits of these would do.
    limits += ["0000000109999", "0000000010", f"00000001{'9' * 50}"]

    for query in [*(f"limit={limit}" for limit in limits), "status=gone", "kind=cat"]:
        with subtests.test(query):
            status, body = get(server, account, f"/jobs?{query}")

            assert (status, body["error"]["param"]) == (400, query.partition("=")[0])


def test_the_jobs_of_others_are_not_there(server: Server, account: Account) -> None:
    job_id = chat(server, account)[2]["id"]
    stranger = server.stack.account()

    assert get(server, stranger, "/jobs")[1]["data"] == []
    assert get(server, stranger, f"/jobs?after={job_id}")[0] == 400
    for path in ("", "/events", "/receipt"):
        assert get(server, stranger, f"/jobs/{job_id}{path}")[0] == 404
    assert post(server, stranger, f"/jobs/{job_id}/cancel")[0] == 404


# ---- Cancelling


def test_a_running_job_is_cancelled_and_pays_for_its_prompt(
    server: Server, account: Account, upstream: Upstream
) -> None:
    upstream.script(HELD)
    job_id = chat(server, account)[2]["id"]
    upstream.wait(received=1)

    status, headers, job = post(server, account, f"/jobs/{job_id}/cancel")

    assert (status, job["status"]) == (200, "cancelled")
    assert headers["x-ratelimit-remaining-requests"]
    assert job["credits_consumed"] == 1
    assert job["error"]["code"] == "job_cancelled"
    upstream.wait(aborted=1)
    assert account.standing() == (9_999, 0)
    # Once more changes nothing.
    assert post(server, account, f"/jobs/{job_id}/cancel")[0] == 200
    assert account.standing() == (9_999, 0)


def test_a_job_that_has_ended_is_not_cancelled(server: Server, account: Account) -> None:
    job_id = ended(server, account, chat(server, account)[2]["id"])["id"]

    status, _, body = post(server, account, f"/jobs/{job_id}/cancel")

    assert (status, body["error"]["code"]) == (409, "job_already_finished")
    assert account.standing() == (9_999, 0)


def test_who_waits_for_a_job_that_is_cancelled_is_told(
    server: Server, account: Account, upstream: Upstream
) -> None:
    upstream.script(HELD)
    callers = Callers()
    callers.call(server.url, account.key)
    upstream.wait(received=1)

    post(server, account, f"/jobs/{account.jobs()[0]['id']}/cancel")

    ((status, _, content),) = callers.replies()
    assert (status, json.loads(content)["error"]["code"]) == (409, "job_cancelled")


# ---- Receipts and estimates


def test_a_receipt_says_what_was_paid_and_why(server: Server, account: Account) -> None:
    job_id = ended(server, account, chat(server, account)[2]["id"])["id"]

    status, receipt = get(server, account, f"/jobs/{job_id}/receipt")

    assert status == 200
    assert receipt["job"] == job_id
    assert receipt["charged"] == 1
    assert receipt["released"] == receipt["held"] - 1
    assert receipt["price"] == {"unit": "credits per 1000 tokens", "prompt": 1, "completion": 3}
    assert receipt["usage"]["total_tokens"] == 15
    assert receipt["estimated"] is False
    (entry,) = receipt["entries"]
    assert set(entry) == {"id", "kind", "credits", "balance_after", "created"}
    assert (entry["kind"], entry["credits"], entry["balance_after"]) == ("charge", -1, 9_999)


def test_a_receipt_of_what_runs_says_what_is_held(
    server: Server, account: Account, upstream: Upstream
) -> None:
    upstream.script(HELD)
    job_id = chat(server, account)[2]["id"]
    upstream.wait(received=1)

    _, receipt = get(server, account, f"/jobs/{job_id}/receipt")

    assert receipt["held"] == account.standing()[1] > 0
    assert (receipt["charged"], receipt["released"], receipt["entries"]) == (None, None, [])
    post(server, account, f"/jobs/{job_id}/cancel")


def test_an_estimate_costs_nothing_and_says_what_would_be_held(
    server: Server, account: Account, upstream: Upstream
) -> None:
    status, headers, estimate = post(server, account, "/estimate", HELLO)

    assert status == 200
    assert estimate["object"] == "estimate"
    assert 1 <= estimate["min_credits"] <= estimate["max_credits"]
    assert (estimate["available"], estimate["affordable"]) == (10_000, True)
    assert headers["x-ratelimit-remaining-requests"] == headers["x-ratelimit-limit-requests"]
    assert upstream.calls() == [] and account.jobs() == []
    _, _, job = chat(server, account)
    assert job["credits_held"] == estimate["max_credits"]


def test_images_are_estimated_too(server: Server) -> None:
    account = server.stack.account(credits=39)
    body = {"model": "dall-e-3", "prompt": "A cat.", "n": 4}

    _, _, estimate = post(server, account, "/estimate", body)

    assert (estimate["min_credits"], estimate["max_credits"]) == (40, 40)
    assert estimate["affordable"] is False


@ON_SQLITE
@pytest.mark.parametrize("body", [{}, [], {"model": "gpt-4"}, {"messages": []}, {"prompt": "x"}])
def test_an_invalid_request_has_no_estimate(server: Server, account: Account, body: Any) -> None:
    assert post(server, account, "/estimate", body)[0] == 400


def test_an_estimate_of_nothing_says_what_is_missing(server: Server, account: Account) -> None:
    _, _, body = post(server, account, "/estimate", {"model": "gpt-4"})

    assert body["error"]["code"] == "missing_required_parameter"
    assert body["error"]["param"] == "messages"
