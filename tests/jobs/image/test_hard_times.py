"""Workers that die while images are made: nobody loses one, and none is made or paid for twice."""

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.callers import Callers
from tests.conftest import EVERY_DATABASE, ONE_DATABASE
from tests.jobs.image.asked import (
    DALL_E,
    FLUX,
    HELD,
    begun,
    body_of,
    bury,
    cancels,
    creates,
    ended,
    rows,
)
from tests.stack import Stack, fetch, wait_until
from tests.upstream import Upstream


@EVERY_DATABASE
def test_a_prediction_outlives_the_worker_that_began_it(
    fresh_stack: Stack, upstream: Upstream
) -> None:
    upstream.script(HELD, HELD)
    web, doomed = fresh_stack.web(), fresh_stack.worker()
    account = fresh_stack.account()
    callers = Callers()

    callers.draw(web, account.key, FLUX | {"n": 2})
    wait_until(lambda: rows(fresh_stack, "started") == 2, "both predictions are known")
    doomed.kill()
    fresh_stack.worker()
    upstream.release()
    (reply,) = callers.replies()

    assert reply[0] == 200
    assert [fetch(datum["url"])[0] for datum in body_of(reply)["data"]] == [200, 200]
    assert creates(upstream) == 2
    assert account.standing() == (980, 0)
    assert account.jobs()[0]["attempts"] == 2


def test_a_worker_told_to_stop_hands_its_prediction_on(
    fresh_stack: Stack, upstream: Upstream
) -> None:
    upstream.script(HELD)
    web, worker = fresh_stack.web(), fresh_stack.worker()
    account = fresh_stack.account()
    callers = Callers()

    callers.draw(web, account.key, FLUX)
    wait_until(lambda: rows(fresh_stack, "started") == 1, "the prediction is known")
    worker.terminate()
    fresh_stack.worker()
    assert worker.wait() == 0
    assert not list(Path(tempfile.gettempdir()).glob(f"likedo-worker-*-{worker.pid}-*"))
    upstream.release()
    (reply,) = callers.replies()

    assert reply[0] == 200
    assert (creates(upstream), cancels(upstream)) == (1, 0)
    assert account.standing() == (990, 0)


@ONE_DATABASE
def test_an_image_call_that_cannot_be_resumed_is_not_repeated(
    fresh_stack: Stack, upstream: Upstream
) -> None:
    upstream.script({"match": "/images/generations", "delay": 60})
    web, doomed = fresh_stack.web(), fresh_stack.worker()
    account = fresh_stack.account()
    callers = Callers()

    callers.draw(web, account.key, DALL_E | {"n": 2})
    upstream.wait(received=1)
    doomed.kill()
    fresh_stack.worker()
    (reply,) = callers.replies()

    assert (reply[0], body_of(reply)["error"]["code"]) == (503, "unavailable")
    assert creates(upstream) == 1
    assert account.standing() == (1000, 0)


def test_stored_images_are_delivered_whatever_became_of_the_worker(
    fresh_stack: Stack, upstream: Upstream
) -> None:
    upstream.script({"match": "/predictions"}, HELD)
    web, doomed = fresh_stack.web(), fresh_stack.worker()
    account = fresh_stack.account()
    callers = Callers()

    callers.draw(web, account.key, FLUX | {"n": 2})
    wait_until(lambda: rows(fresh_stack, "done") == 1, "one image is stored")
    wait_until(lambda: rows(fresh_stack, "started") == 1, "the other is begun")
    doomed.kill()
    # So that its id leads nowhere.
    upstream.reset()
    fresh_stack.worker()
    (reply,) = callers.replies()

    assert reply[0] == 200
    answer = body_of(reply)
    assert len(answer["data"]) == len(answer["errors"]) == 1
    assert fetch(answer["data"][0]["url"])[0] == 200
    assert creates(upstream) == 0
    assert account.standing() == (990, 0)


def test_a_job_that_is_cancelled_pays_for_what_is_stored(
    fresh_stack: Stack, upstream: Upstream
) -> None:
    upstream.script({"match": "/predictions"}, HELD)
    web = fresh_stack.web(sync_wait_seconds=0)  # However long the command takes to start.
    fresh_stack.worker()
    account = fresh_stack.account()
    callers = Callers()

    callers.draw(web, account.key, FLUX | {"n": 2})
    wait_until(lambda: rows(fresh_stack, "done") == 1, "one image is stored")
    wait_until(lambda: rows(fresh_stack, "started") == 1, "the other is begun")
    fresh_stack.run("jobs", "cancel", account.jobs()[0]["id"])
    (reply,) = callers.replies()

    assert (reply[0], body_of(reply)["error"]["code"]) == (409, "job_cancelled")
    assert cancels(upstream) == 1
    assert account.standing() == (990, 0)
    found = fetch(f"{web}/v1/jobs/{account.jobs()[0]['id']}", key=account.key)
    job = json.loads(found[2])
    assert (job["status"], job["progress"]) == ("cancelled", {"completed": 1, "total": 2})
    assert fetch(job["result"]["data"][0]["url"])[0] == 200


@EVERY_DATABASE
@pytest.mark.parametrize(
    "body", [{"n": 2}, {"prompt": ["A cat.", "A dog."]}], ids=["image", "batch"]
)
def test_a_job_that_is_cancelled_when_its_worker_is_dead_pays_for_what_is_stored(
    fresh_stack: Stack, upstream: Upstream, body: Any
) -> None:
    upstream.script({"match": "/predictions"}, HELD)
    web, doomed = fresh_stack.web(), fresh_stack.worker()
    account = fresh_stack.account()
    job_id = begun(fresh_stack, web, account, FLUX | body, {"done": 1, "started": 1})
    bury(fresh_stack, doomed)

    fresh_stack.run("jobs", "cancel", job_id)
    fresh_stack.worker()
    job = ended(web, account, job_id)

    assert (job["status"], job["credits_consumed"]) == ("cancelled", 10)
    assert fetch(job["result"]["data"][0]["url"])[0] == 200
    assert (creates(upstream), cancels(upstream)) == (2, 1)
    assert account.standing() == (990, 0)


@ONE_DATABASE
def test_a_worker_that_stops_asks_for_nothing_more_of_a_batch(
    fresh_stack: Stack, upstream: Upstream
) -> None:
    upstream.script(*[{"match": "/images/generations", "hold": True}] * 4)
    web, worker = fresh_stack.web(), fresh_stack.worker()
    account = fresh_stack.account()
    prompts = [f"Cat number {number}." for number in range(6)]
    job_id = begun(fresh_stack, web, account, DALL_E | {"prompt": prompts}, {"asked": 4})
    upstream.wait(received=4)

    worker.terminate()
    wait_until(lambda: "worker.stopping" in worker.said(), "the worker knows", worker)
    upstream.release()
    assert worker.wait() == 0
    asked_before = creates(upstream)
    fresh_stack.worker()
    job = ended(web, account, job_id)

    assert asked_before == 4
    assert creates(upstream) == 6
    assert (job["status"], job["progress"]["completed"]) == ("completed", 6)
    assert account.standing() == (940, 0)


@ONE_DATABASE
def test_an_odd_prediction_does_not_take_the_others_with_it(
    fresh_stack: Stack, upstream: Upstream
) -> None:
    odd = {"status": 201, "json": {"id": "odd", "status": ["odd"]}}
    upstream.script({"match": "flux-pro/predictions", **odd})
    web = fresh_stack.web()
    fresh_stack.worker()
    account = fresh_stack.account()

    reply = fetch(f"{web}/v1/images/generations", FLUX | {"n": 2}, key=account.key)

    assert reply[0] == 200
    assert len(body_of(reply)["data"]) == len(body_of(reply)["errors"]) == 1
    assert account.standing() == (990, 0)


@ONE_DATABASE
def test_stored_images_are_delivered_though_the_storage_takes_no_more(
    fresh_stack: Stack, upstream: Upstream
) -> None:
    upstream.script({"match": "/predictions"}, *[HELD] * 5)
    web, doomed = fresh_stack.web(), fresh_stack.worker()
    account = fresh_stack.account()
    prompts = [f"Cat number {number}." for number in range(6)]
    body = FLUX | {"prompt": prompts}
    job_id = begun(fresh_stack, web, account, body, {"done": 1, "started": 4})
    bury(fresh_stack, doomed)

    fresh_stack.worker(s3_bucket="nowhere", s3_endpoint_url="http://127.0.0.1:9")
    upstream.release()
    job = ended(web, account, job_id)

    assert (job["status"], job["progress"]["completed"]) == ("completed", 1)
    assert fetch(job["result"]["data"][0]["url"])[0] == 200
    assert {failed["error"]["code"] for failed in job["result"]["errors"]} == {"unavailable"}
    assert len(job["result"]["errors"]) == 5
    assert creates(upstream) == 5
    assert account.standing() == (990, 0)


@ONE_DATABASE
def test_stored_images_are_delivered_though_no_provider_makes_more(
    fresh_stack: Stack, upstream: Upstream
) -> None:
    upstream.script({"match": "/predictions"}, HELD)
    web, doomed = fresh_stack.web(), fresh_stack.worker()
    account = fresh_stack.account()
    job_id = begun(fresh_stack, web, account, FLUX | {"n": 2}, {"done": 1, "started": 1})
    bury(fresh_stack, doomed)

    fresh_stack.worker(replicate_api_token="")
    job = ended(web, account, job_id)

    assert (job["status"], job["provider"]) == ("completed", "replicate")
    assert len(job["result"]["data"]) == len(job["result"]["errors"]) == 1
    assert account.standing() == (990, 0)


@ONE_DATABASE
def test_an_image_that_was_certainly_not_begun_is_requested_by_the_next_worker(
    fresh_stack: Stack, upstream: Upstream
) -> None:
    refusal = {"error": {"message": "Slow down.", "code": "rate_limit_exceeded"}}
    busy = {"status": 429, "headers": {"retry-after": "15"}, "json": refusal}
    upstream.script({"match": "/images/generations", **busy})
    body = DALL_E | {"model": "gpt-image-2"}
    web, doomed = fresh_stack.web(), fresh_stack.worker()
    account = fresh_stack.account()
    job_id = begun(fresh_stack, web, account, body, {"unasked": 1})
    bury(fresh_stack, doomed)

    fresh_stack.worker()
    job = ended(web, account, job_id)

    assert job["status"] == "completed"
    assert creates(upstream) == 2
    assert account.standing() == (990, 0)


@ONE_DATABASE
def test_the_worker_that_finishes_a_job_knows_which_provider_made_its_images(
    fresh_stack: Stack, upstream: Upstream
) -> None:
    upstream.script({"match": "/images/generations"}, {"match": "/images/generations", "delay": 60})
    body = DALL_E | {"prompt": ["A cat.", "A dog."]}
    web, doomed = fresh_stack.web(), fresh_stack.worker()
    account = fresh_stack.account()
    job_id = begun(fresh_stack, web, account, body, {"done": 1, "asked": 1})
    bury(fresh_stack, doomed)

    fresh_stack.worker()
    job = ended(web, account, job_id)

    assert (job["status"], job["provider"]) == ("completed", "openai")
    assert account.standing() == (990, 0)


@ONE_DATABASE
def test_no_provider_is_asked_for_images_while_the_storage_fails(
    fresh_stack: Stack, upstream: Upstream
) -> None:
    web = fresh_stack.web()
    fresh_stack.worker(s3_bucket="nowhere", s3_endpoint_url="http://127.0.0.1:9")
    account = fresh_stack.account()

    status, _, content = fetch(f"{web}/v1/images/generations", DALL_E, key=account.key)

    assert (status, json.loads(content)["error"]["code"]) == (503, "unavailable")
    assert upstream.calls() == []
    assert account.standing() == (1000, 0)


@ONE_DATABASE
@pytest.mark.slow
def test_images_do_not_keep_chats_waiting(fresh_stack: Stack, upstream: Upstream) -> None:
    upstream.script(*[HELD] * 20)
    web = fresh_stack.web()
    fresh_stack.worker(image_concurrency=2)
    account = fresh_stack.account()
    callers = Callers()

    callers.draw(web, account.key, FLUX, times=20)
    wait_until(lambda: rows(fresh_stack, "started") == 2, "as many are begun as may be")
    hello = {"model": "gpt-4", "messages": [{"role": "user", "content": "Hello"}]}
    status, _, _ = fetch(f"{web}/v1/chat/completions", hello, key=account.key)

    assert status == 200
    assert creates(upstream) == 2
    wait_until(lambda: _released(upstream, fresh_stack), "every job has ended")
    assert {reply[0] for reply in callers.replies()} == {200}
    assert account.standing() == (1000 - 1 - 200, 0)


def _released(upstream: Upstream, stack: Stack) -> bool:
    upstream.release()
    return stack.unfinished() == 0
