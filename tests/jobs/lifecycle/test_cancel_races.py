"""Cancelling in every state, racing with the end: the table of charges holds each time."""

import json
import random
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import openai
import pytest

from tests.batches import OVER, Batches, chats, counts, the_books_are_right
from tests.callers import HELLO
from tests.events import STREAMED
from tests.stack import Account, Stack, fetch, wait_until
from tests.upstream import Upstream

RACES = 500
#: Where each statement takes a round trip.
RACES_ON_POSTGRESQL = 100
AT_ONCE = 20
#: Seconds: a cancel comes at some moment of these, and the upstream takes half as long.
LONGEST = 0.1

CHAT = HELLO | {"background": True}
STREAM = STREAMED | {"background": True}
IMAGE = {"model": "dall-e-2", "prompt": "A cat.", "size": "256x256", "background": True}
IMAGES = IMAGE | {"prompt": ["A cat.", "A dog."], "n": 2}
#: Of the batches that race, each.
LINES = 20

#: As many as show what would go wrong every time.
SAMPLE = 40

CHATS_COST = {"completed": {1}, "cancelled": {0, 1}}
#: (path, body, what a job may cost by its end)
KINDS = {
    "chat": ("chat/completions", CHAT, CHATS_COST),
    "stream": ("chat/completions", STREAM, CHATS_COST),
    "image": ("images/generations", IMAGE, {"completed": {10}, "cancelled": {0, 10}}),
    "images": (
        "images/generations",
        IMAGES,
        {"completed": {40}, "cancelled": {0, 10, 20, 30, 40}},
    ),
}


def race(web: str, account: Account, path: str, body: Any) -> str:
    """Begin a job, cancel it at some moment, and return its id."""
    _, _, content = fetch(f"{web}/v1/{path}", body, key=account.key)
    job_id = str(json.loads(content)["id"])
    # The moment is what is tried out here: nothing is waited for.
    time.sleep(random.uniform(0, LONGEST))
    status, _, content = fetch(
        f"{web}/v1/jobs/{job_id}/cancel", b"", key=account.key, method="POST"
    )
    told = json.loads(content)
    if status == 200:
        # As it stands after some seconds: on a busy machine its worker may need longer.
        assert told["status"] in ("cancelled", "in_progress")
    else:
        assert told["error"]["code"] == "job_already_finished"
    return job_id


def races_on(stack: Stack) -> int:
    return RACES if stack.database_url.startswith("sqlite") else RACES_ON_POSTGRESQL


@pytest.mark.long
@pytest.mark.alone
@pytest.mark.parametrize("kind", KINDS)
def test_the_charge_is_right_whoever_is_first(
    fresh_stack: Stack, upstream: Upstream, kind: str
) -> None:
    the_charge_is_right(fresh_stack, upstream, kind, races_on(fresh_stack))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["stream", "images"])
def test_the_charge_is_right_in_a_sample_of_the_races(
    fresh_stack: Stack, upstream: Upstream, kind: str
) -> None:
    the_charge_is_right(fresh_stack, upstream, kind, SAMPLE)


def the_charge_is_right(stack: Stack, upstream: Upstream, kind: str, races: int) -> None:
    path, body, costs = KINDS[kind]
    upstream.script(default={"delay": LONGEST / 2})
    web = stack.web()
    stack.worker(image_concurrency=AT_ONCE)
    account = stack.account(credits=100_000)

    with ThreadPoolExecutor(AT_ONCE) as threads:
        ids = list(threads.map(lambda _: race(web, account, path, body), range(races)))
    wait_until(lambda: stack.unfinished() == 0, "every job has ended")

    jobs = {job["id"]: job for job in account.jobs()}
    assert jobs.keys() == set(ids)
    assert {job["status"] for job in jobs.values()} <= costs.keys()
    for job in jobs.values():
        assert job["charged"] in costs[job["status"]], job
    charged = sum(job["charged"] for job in jobs.values())
    assert account.standing() == (100_000 - charged, 0)
    entries = [credits for kind, credits in account.entries() if kind == "charge"]
    assert -sum(entries) == charged
    assert len(entries) == sum(bool(job["charged"]) for job in jobs.values())
    # What was cancelled before anybody was asked is free; what was asked for is not.
    asked = {row[0] for row in stack.query("SELECT id FROM jobs WHERE provider IS NOT NULL")}
    for job_id, job in jobs.items():
        if path == "chat/completions":
            assert bool(job["charged"]) == (job_id in asked), job
    # An image that is stored is delivered and paid for.
    sql = "SELECT job_id, count(*) FROM media WHERE is_stored GROUP BY job_id"
    stored = {job_id: 10 * count for job_id, count in stack.query(sql)}
    if path == "images/generations":
        assert {job_id: job["charged"] for job_id, job in jobs.items() if job["charged"]} == stored

    nobody_waited_in_a_circle(stack)


def nobody_waited_in_a_circle(stack: Stack) -> None:
    """Assert that PostgreSQL, where that can happen, had no transaction to undo for it."""
    if not stack.database_url.startswith("sqlite"):
        sql = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        assert stack.query(sql) == [(0,)]


def race_a_batch(batches: Batches, upstream: Upstream) -> tuple[int, int, int]:
    """Begin a batch, cancel it at some moment after its first line was asked for; its counts."""
    before = len(upstream.calls())
    batch = batches.create(chats(LINES))
    upstream.wait(received=before + 1)
    time.sleep(random.uniform(0, LONGEST))
    with suppress(openai.ConflictError):  # It was over.
        batches.sdk.batches.cancel(batch.id)
    batch = batches.until(batch, *OVER)
    answered = [each["custom_id"] for each in batches.output(batch)]
    failed = [each["custom_id"] for each in batches.errors(batch)]
    assert sorted(answered + failed) == sorted(f"line-{number}" for number in range(LINES))
    assert counts(batch) == (LINES, len(answered), len(failed))
    # Those that had begun say what their job ended with, as an answer; the others have none.
    assert set(map(why, batches.errors(batch))) <= {"batch_cancelled", "job_cancelled"}
    return counts(batch)


def why(entry: dict[str, Any]) -> str:
    """Return the code of a line in a batch's error file."""
    return str((entry["error"] or entry["response"]["body"]["error"])["code"])


@pytest.mark.long
@pytest.mark.alone
def test_the_charge_is_right_for_every_line_of_a_batch(
    fresh_stack: Stack, upstream: Upstream
) -> None:
    upstream.script(default={"delay": LONGEST / 2})
    web = fresh_stack.web()
    fresh_stack.worker()
    account = fresh_stack.account(credits=10_000)
    batches = Batches(web, account)

    found = [race_a_batch(batches, upstream) for _ in range(races_on(fresh_stack) // LINES)]

    batches.close()
    wait_until(lambda: fresh_stack.unfinished() == 0, "every job has ended")
    the_books_are_right(account, 10_000)
    jobs = account.jobs()
    # Each answer is paid for; what a cancelled line was asked for is, too, and nothing else.
    completed = [job for job in jobs if job["status"] == "completed"]
    assert len(completed) == sum(answered for _, answered, _ in found)
    assert {job["charged"] for job in completed} == {1}
    asked = {row[0] for row in fresh_stack.query("SELECT id FROM jobs WHERE provider IS NOT NULL")}
    assert {job["id"] for job in jobs if job["charged"]} == asked
    assert {job["status"] for job in jobs} <= {"completed", "cancelled"}
    nobody_waited_in_a_circle(fresh_stack)
