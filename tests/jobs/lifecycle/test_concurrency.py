"""One account's many jobs do not delay another's few."""

import json

from tests.callers import HELLO, Callers
from tests.conftest import EVERY_DATABASE, ONE_DATABASE
from tests.stack import Stack, fetch, wait_until
from tests.upstream import Upstream

#: Of the plan `free`, as the catalogue has it.
MAX_RUNNING = 20


def waiting(stack: Stack) -> int:
    """Return how many jobs have no concurrency slot yet."""
    sql = "SELECT count(*) FROM jobs WHERE status = 'queued' AND enqueued_at IS NULL"
    return int(stack.query(sql)[0][0])


@EVERY_DATABASE
def test_an_account_runs_as_many_jobs_at_a_time_as_its_plan_lets_it(
    fresh_stack: Stack, upstream: Upstream
) -> None:
    upstream.script(*[{"hold": True}] * MAX_RUNNING)
    web = fresh_stack.web()
    fresh_stack.worker()
    account, other = fresh_stack.account(plan="free"), fresh_stack.account()
    callers = Callers()

    callers.call(web, account.key, times=2 * MAX_RUNNING)
    wait_until(lambda: waiting(fresh_stack) == MAX_RUNNING, "the rest waits")
    upstream.wait(received=MAX_RUNNING)
    status, _, _ = fetch(f"{web}/v1/chat/completions", HELLO, key=other.key)

    assert status == 200
    assert upstream.counts()["received"] == MAX_RUNNING + 1
    upstream.release()
    assert {status for status, _, _ in callers.replies()} == {200}
    assert waiting(fresh_stack) == 0
    assert account.standing() == (1000 - 2 * MAX_RUNNING, 0)


def test_maintenance_promotes_what_no_worker_did(fresh_stack: Stack, upstream: Upstream) -> None:
    web = fresh_stack.web()
    fresh_stack.worker()
    account = fresh_stack.account()
    body = HELLO | {"background": True}
    fresh_stack.workers[0].stop()
    _, _, content = fetch(f"{web}/v1/chat/completions", body, key=account.key)
    # As if the process that was to promote it had died before.
    fresh_stack.change("UPDATE jobs SET enqueued_at = NULL")
    fresh_stack.valkey.process.kill()
    fresh_stack.valkey.start()

    fresh_stack.worker()

    job_id = json.loads(content)["id"]
    wait_until(
        lambda: account.jobs()[0]["status"] == "completed", f"{job_id} is promoted and answered"
    )
    assert account.standing() == (999, 0)


def test_an_asynchronous_job_outlives_an_emptied_redis(
    fresh_stack: Stack, upstream: Upstream
) -> None:
    web = fresh_stack.web()
    account = fresh_stack.account()
    bodies = [HELLO | {"background": True}, HELLO | {"background": True, "user": "x" * 70_000}]
    for body in bodies:
        assert fetch(f"{web}/v1/chat/completions", body, key=account.key)[0] == 202
    fresh_stack.valkey.process.kill()
    fresh_stack.valkey.start()

    fresh_stack.worker()

    wait_until(lambda: fresh_stack.unfinished() == 0, "both have ended")
    assert [job["status"] for job in account.jobs()] == ["completed", "completed"]
    assert account.standing() == (998, 0)
    # They are forgotten just after their jobs have ended.
    sql = "SELECT count(*) FROM bodies"
    wait_until(lambda: fresh_stack.query(sql)[0][0] == 0, "the bodies are forgotten")


@ONE_DATABASE
def test_bulk_images_take_no_slot_of_a_chat(fresh_stack: Stack, upstream: Upstream) -> None:
    upstream.script(*[{"match": "/predictions", "prediction": {"hold": True}}] * 100)
    web = fresh_stack.web()
    fresh_stack.worker()
    account = fresh_stack.account(plan="free", credits=10_000)
    batch = {"model": "flux-pro", "prompt": "A cat.", "n": 5, "background": True}
    for _ in range(MAX_RUNNING):
        assert fetch(f"{web}/v1/images/generations", batch, key=account.key)[0] == 202
    assert waiting(fresh_stack) == MAX_RUNNING - 2

    status, _, _ = fetch(f"{web}/v1/chat/completions", HELLO, key=account.key)

    assert status == 200


@EVERY_DATABASE
def test_a_promoted_job_has_its_body_however_slow_the_storage_is(
    fresh_stack: Stack, upstream: Upstream
) -> None:
    upstream.script(default={"delay": 0.05})
    web = fresh_stack.web()
    fresh_stack.worker()
    accounts = [fresh_stack.account(plan="free") for _ in range(3)]
    callers = Callers()
    large = HELLO | {"user": "x" * 70_000}

    for account in accounts:
        callers.call(web, account.key, times=3 * MAX_RUNNING, body=large)
        callers.call(web, account.key, times=MAX_RUNNING)
    replies = callers.replies()

    assert {status for status, _, _ in replies} == {200}
    assert not list((fresh_stack.folder / "var" / "files" / "bodies").iterdir())
