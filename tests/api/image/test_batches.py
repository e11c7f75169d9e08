"""Many images as one job: progress, the images so far, and what becomes of it in hard times."""

import json
from typing import Any

import pytest

from tests.conftest import LONG_ON_POSTGRESQL, ON_SQLITE, Server
from tests.stack import Account, Stack, fetch, wait_until
from tests.upstream import Upstream

PROMPTS = ["A cat.", "A dog.", "A cow."]
BATCH = {"model": "flux-pro", "prompt": PROMPTS, "n": 2, "size": "512x512", "background": True}
HELD = {"match": "/predictions", "prediction": {"hold": True}}


def post(url: str, account: Account, body: Any) -> tuple[int, Any]:
    status, _, content = fetch(f"{url}/v1/images/generations", body, key=account.key)
    return status, json.loads(content)


def job_of(url: str, account: Account, job_id: str) -> Any:
    return json.loads(fetch(f"{url}/v1/jobs/{job_id}", key=account.key)[2])


def ended(url: str, account: Account, job_id: str) -> Any:
    wait_until(lambda: job_of(url, account, job_id)["finished_at"] is not None, "the job has ended")
    return job_of(url, account, job_id)


def asked(upstream: Upstream) -> list[str]:
    """Return the prompts that predictions were begun for."""
    calls = [call for call in upstream.calls() if call["path"].endswith("/predictions")]
    return [call["body"]["input"]["prompt"] for call in calls]


def test_a_list_of_prompts_is_one_job(server: Server, account: Account, upstream: Upstream) -> None:
    status, job = post(server.url, account, BATCH)

    assert status == 202
    assert (job["kind"], job["progress"]) == ("batch", {"completed": 0, "total": 6})
    assert job["credits_held"] == 60
    job = ended(server.url, account, job["id"])
    assert (job["status"], job["progress"]) == ("completed", {"completed": 6, "total": 6})
    assert [datum["index"] for datum in job["result"]["data"]] == list(range(6))
    assert all(fetch(datum["url"])[0] == 200 for datum in job["result"]["data"])
    assert sorted(asked(upstream)) == sorted(PROMPTS * 2)
    assert job["credits_consumed"] == 60
    assert account.standing() == (9_940, 0)


def test_the_images_so_far_are_in_the_job(
    server: Server, account: Account, upstream: Upstream
) -> None:
    upstream.script({"match": "/predictions"}, *[HELD] * 5)
    _, job = post(server.url, account, BATCH)

    def so_far() -> Any:
        return job_of(server.url, account, job["id"])

    wait_until(lambda: so_far()["progress"]["completed"] == 1, "one image is there")
    assert so_far()["status"] == "in_progress"
    (datum,) = so_far()["result"]["data"]
    assert fetch(datum["url"])[0] == 200
    wait_until(lambda: bool(upstream.release()) or so_far()["finished_at"], "it has ended")
    assert so_far()["progress"]["completed"] == 6


def test_progress_is_told_to_who_follows(
    server: Server, account: Account, upstream: Upstream
) -> None:
    _, job = post(server.url, account, BATCH)

    _, _, content = fetch(f"{server.api}/jobs/{job['id']}/events", key=account.key)

    assert b'event: job.progress\ndata: {"job":"' in content
    assert b'"completed":6,"total":6' in content


def test_some_that_fail_are_told_by_their_index(
    server: Server, account: Account, upstream: Upstream
) -> None:
    upstream.script({"match": "/predictions", "prediction": {"ends": "failed", "error": "No."}})

    job = ended(server.url, account, post(server.url, account, BATCH)[1]["id"])

    assert len(job["result"]["data"]) == 5
    (failed,) = job["result"]["errors"]
    missing = set(range(6)) - {datum["index"] for datum in job["result"]["data"]}
    assert {failed["index"]} == missing
    assert account.standing() == (9_950, 0)


@ON_SQLITE
@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"n": 5, "prompt": "A cat."}, "n"),
        ({"prompt": ["A cat."]}, "prompt"),
        ({"background": True, "n": 101}, "n"),
        ({"background": True, "prompt": ["A cat."] * 101}, "prompt"),
        ({"background": True, "prompt": []}, "prompt"),
        ({"background": True, "prompt": ["A cat.", ""]}, "prompt[1]"),
        ({"background": True, "n": 5, "response_format": "b64_json"}, "response_format"),
    ],
)
def test_too_many_images_or_prompts_are_refused(
    server: Server, account: Account, more: dict[str, Any], param: str
) -> None:
    status, body = post(server.url, account, {"model": "flux-pro", "prompt": "A cat."} | more)

    assert (status, body["error"]["param"]) == (400, param)


def test_four_of_one_prompt_are_an_image_job(server: Server, account: Account) -> None:
    body = {"model": "flux-schnell", "prompt": "A cat.", "n": 4, "background": True}

    status, job = post(server.url, account, body)

    assert (status, job["kind"]) == (202, "image")
    job = ended(server.url, account, job["id"])
    assert len(job["result"]["data"]) == 4
    assert "index" not in job["result"]["data"][0]


def test_a_list_of_one_prompt_is_an_image_job(server: Server, account: Account) -> None:
    body = {"model": "flux-pro", "prompt": ["A cat."], "n": 2, "background": True}

    status, job = post(server.url, account, body | {"response_format": "b64_json"})

    assert (status, job["kind"]) == (202, "image")
    job = ended(server.url, account, job["id"])
    assert [datum.keys() for datum in job["result"]["data"]] == [{"b64_json"}] * 2


def test_the_images_so_far_are_in_an_image_job_too(
    server: Server, account: Account, upstream: Upstream
) -> None:
    upstream.script({"match": "/predictions"}, HELD)
    body = {"model": "flux-pro", "prompt": "A cat.", "n": 2, "background": True}
    _, job = post(server.url, account, body)

    def so_far() -> Any:
        return job_of(server.url, account, job["id"])

    wait_until(lambda: so_far()["progress"]["completed"] == 1, "one image is there")
    (datum,) = so_far()["result"]["data"]
    assert fetch(datum["url"])[0] == 200
    wait_until(lambda: bool(upstream.release()) or so_far()["finished_at"], "it has ended")


@LONG_ON_POSTGRESQL
@pytest.mark.slow
def test_a_batch_goes_on_where_the_dead_worker_was(fresh_stack: Stack, upstream: Upstream) -> None:
    upstream.script(*[{"match": "/predictions"}] * 3, *[HELD] * 3)
    web, doomed = fresh_stack.web(), fresh_stack.worker()
    account = fresh_stack.account()
    _, job = post(web, account, BATCH)
    sql = "SELECT status, count(*) FROM shots GROUP BY status ORDER BY status"
    wait_until(
        lambda: fresh_stack.query(sql) == [("done", 3), ("started", 3)],
        "three images are stored and the others begun",
    )

    doomed.kill()
    fresh_stack.worker()
    upstream.release()

    job = ended(web, account, job["id"])
    assert job["progress"] == {"completed": 6, "total": 6}
    assert len(asked(upstream)) == 6
    assert account.standing() == (940, 0)
