"""Workers that die while images are made: nobody loses one, and none is made or paid for twice."""

import json
from typing import Any

import pytest

from tests.callers import Callers
from tests.conftest import EVERY_DATABASE
from tests.stack import Stack, fetch, wait_until
from tests.upstream import Upstream

FLUX = {"model": "flux-pro", "prompt": "A cat with a cowboy hat, dancing in Rome."}
DALL_E = FLUX | {"model": "dall-e-3"}
HELD = {"match": "/predictions", "prediction": {"hold": True}}


def creates(upstream: Upstream) -> int:
    """Return how often somebody had an image made."""
    paths = [call["path"] for call in upstream.calls() if call["method"] == "POST"]
    return sum(path.endswith(("/predictions", "/images/generations")) for path in paths)


def cancels(upstream: Upstream) -> int:
    return sum(call["path"].endswith("/cancel") for call in upstream.calls())


def body_of(reply: tuple[int, dict[str, str], bytes]) -> Any:
    return json.loads(reply[2])


def rows(stack: Stack, status: str) -> int:
    """Return how many calls for images have that status."""
    sql = "SELECT count(*) FROM shots WHERE status = :status"
    return int(stack.query(sql, status=status)[0][0])


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
    upstream.release()
    (reply,) = callers.replies()

    assert reply[0] == 200
    assert (creates(upstream), cancels(upstream)) == (1, 0)
    assert account.standing() == (990, 0)


def test_what_cannot_be_resumed_is_not_asked_for_again(
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


def test_what_is_stored_is_delivered_whatever_became_of_the_worker(
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
    web = fresh_stack.web()
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


def test_a_storage_that_takes_nothing_keeps_anybody_from_being_asked(
    fresh_stack: Stack, upstream: Upstream
) -> None:
    web = fresh_stack.web()
    fresh_stack.worker(s3_bucket="nowhere", s3_endpoint_url="http://127.0.0.1:9")
    account = fresh_stack.account()

    status, _, content = fetch(f"{web}/v1/images/generations", DALL_E, key=account.key)

    assert (status, json.loads(content)["error"]["code"]) == (503, "unavailable")
    assert upstream.calls() == []
    assert account.standing() == (1000, 0)


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
