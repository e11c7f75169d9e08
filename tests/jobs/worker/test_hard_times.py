"""Processes that die, freeze or are told to stop: nobody waits or pays for it."""

import http.client
import json
import os
import signal
from collections import Counter

import pytest

from tests.callers import HELLO, Callers
from tests.conftest import EVERY_DATABASE, LONG_ON_POSTGRESQL, ONE_DATABASE
from tests.jobs.worker.disasters import CALLS, nothing_is_left_behind
from tests.stack import Stack, fetch, wait_until
from tests.upstream import Upstream


@EVERY_DATABASE
def test_a_workers_sudden_death_costs_nobody_an_answer(
    fresh_stack: Stack, upstream: Upstream
) -> None:
    upstream.script(default={"hold": True})
    web, doomed = fresh_stack.web(), fresh_stack.worker()
    account = fresh_stack.account()
    callers = Callers()

    callers.call(web, account.key, times=CALLS)
    upstream.wait(received=CALLS)
    doomed.kill()
    fresh_stack.worker()
    upstream.release()
    replies = callers.replies()

    assert Counter(status for status, _, _ in replies) == {200: CALLS}
    nothing_is_left_behind(fresh_stack, account, replies)
    assert {job["attempts"] for job in account.jobs()} == {2}


@LONG_ON_POSTGRESQL
@pytest.mark.slow
def test_without_any_worker_left_callers_get_a_clear_error(
    fresh_stack: Stack, upstream: Upstream
) -> None:
    upstream.script(default={"delay": 60})
    web, doomed = fresh_stack.web(), fresh_stack.worker()
    account = fresh_stack.account()
    callers = Callers()

    callers.call(web, account.key, times=5)
    upstream.wait(received=5)
    doomed.kill()
    replies = callers.replies()

    assert {status for status, _, _ in replies} == {503}
    assert {json.loads(body)["error"]["code"] for _, _, body in replies} == {"unavailable"}
    nothing_is_left_behind(fresh_stack, account, replies)
    assert account.standing() == (1000, 0)


def test_a_call_that_no_worker_ever_takes_on_ends_with_its_time(
    fresh_stack: Stack, upstream: Upstream
) -> None:
    web = fresh_stack.web(job_timeout_seconds=1)
    account = fresh_stack.account()

    later = fetch(f"{web}/v1/chat/completions", HELLO | {"background": True}, key=account.key)
    status, headers, body = fetch(f"{web}/v1/chat/completions", HELLO, key=account.key)

    assert (status, json.loads(body)["error"]["code"]) == (503, "unavailable")
    assert "retry-after" in headers
    assert account.standing() == (1000, 1)
    fresh_stack.worker()
    job_id = json.loads(later[2])["id"]
    wait_until(lambda: fresh_stack.unfinished() == 0, "what can wait was answered")
    assert {job["id"]: job["status"] for job in account.jobs()} == {
        job_id: "completed",
        headers["x-job-id"]: "failed",
    }
    assert account.standing() == (999, 0)


@LONG_ON_POSTGRESQL
@pytest.mark.slow
def test_without_any_worker_left_an_accepted_job_waits_for_the_next(
    fresh_stack: Stack, upstream: Upstream
) -> None:
    """The process that serves others' calls makes upkeep meanwhile, and these fail."""
    upstream.script(*[{"delay": 60}] * 2, default={})
    web, doomed = fresh_stack.web(), fresh_stack.worker()
    account = fresh_stack.account()
    callers = Callers()
    accepted, _, _ = fetch(
        f"{web}/v1/chat/completions", HELLO | {"background": True}, key=account.key
    )
    callers.call(web, account.key)
    upstream.wait(received=2)

    doomed.kill()
    statuses = [status for status, _, _ in callers.replies()]
    meanwhile = Counter(job["status"] for job in account.jobs())
    fresh_stack.worker()
    wait_until(lambda: fresh_stack.unfinished() == 0, "the job has ended")

    assert (accepted, statuses) == (202, [503])
    assert meanwhile == {"queued": 1, "failed": 1}
    assert Counter(job["status"] for job in account.jobs()) == {"completed": 1, "failed": 1}
    assert account.standing() == (999, 0)


def test_a_worker_told_to_stop_finishes_what_it_has(fresh_stack: Stack, upstream: Upstream) -> None:
    upstream.script(default={"hold": True})
    web, worker = fresh_stack.web(), fresh_stack.worker()
    account = fresh_stack.account()
    callers = Callers()

    callers.call(web, account.key, times=CALLS)
    upstream.wait(received=CALLS)
    worker.terminate()
    wait_until(lambda: "worker.stopping" in worker.said(), "the worker knows", worker)
    upstream.release()

    assert worker.wait() == 0
    replies = callers.replies()
    assert Counter(status for status, _, _ in replies) == {200: CALLS}
    nothing_is_left_behind(fresh_stack, account, replies)
    assert {job["attempts"] for job in account.jobs()} == {1}
    assert fresh_stack.live_workers() == []


@LONG_ON_POSTGRESQL
@pytest.mark.slow
def test_a_worker_told_to_stop_hands_back_what_takes_too_long(
    fresh_stack: Stack, upstream: Upstream
) -> None:
    upstream.script(*[{"delay": 60}] * 5)
    web, worker = fresh_stack.web(), fresh_stack.worker()
    account = fresh_stack.account()
    callers = Callers()

    callers.call(web, account.key, times=5)
    upstream.wait(received=5)
    worker.terminate()
    other = fresh_stack.worker()
    replies = callers.replies()

    assert worker.wait() == 0
    assert Counter(status for status, _, _ in replies) == {200: 5}
    nothing_is_left_behind(fresh_stack, account, replies)
    assert upstream.counts()["aborted"] == 5
    assert other.child.poll() is None


@ONE_DATABASE
def test_a_web_process_told_to_stop_answers_who_waits_and_closes_who_does_not(
    fresh_stack: Stack, upstream: Upstream
) -> None:
    upstream.script(default={"delay": 3})
    web = fresh_stack.web()
    fresh_stack.worker()
    account = fresh_stack.account()
    idle = http.client.HTTPConnection("127.0.0.1", fresh_stack.ports[0])
    idle.request("GET", "/healthz")
    idle.getresponse().read()
    callers = Callers()

    callers.call(web, account.key, times=20)
    upstream.wait(received=20)
    fresh_stack.webs[0].terminate()
    closed = idle.sock.recv(1)
    idle.close()

    assert closed == b""
    assert "Traceback" not in fresh_stack.webs[0].said()
    assert fresh_stack.webs[0].wait() == 0
    assert Counter(status for status, _, _ in callers.replies()) == {200: 20}
    assert fresh_stack.unfinished() == 0


@ONE_DATABASE
def test_every_worker_keeps_its_lease(fresh_stack: Stack) -> None:
    workers = [fresh_stack.worker() for _ in range(6)]

    def renewed() -> int:
        sql = "SELECT count(*) FROM leases WHERE last_seen > started_at + 6"
        return int(fresh_stack.query(sql)[0][0])

    wait_until(lambda: renewed() == 6, "all leases have been renewed more than once")
    assert not any("Traceback" in worker.said() for worker in workers)


@ONE_DATABASE
def test_a_worker_whose_log_nobody_reads_any_more_works_on_and_stops_when_told(
    fresh_stack: Stack, upstream: Upstream
) -> None:
    """Whoever started it may be gone, and Redis with it: there is much to say, and nobody there."""
    web = fresh_stack.web()
    account = fresh_stack.account()
    reading, writing = os.pipe()
    worker = fresh_stack.worker(output=writing)
    os.close(writing)
    os.close(reading)

    fresh_stack.valkey.process.kill()
    wait_until(lambda: fetch(f"{web}/readyz")[0] == 503, "Redis is missed")
    fresh_stack.valkey.start()
    wait_until(
        lambda: fetch(f"{web}/v1/chat/completions", HELLO, key=account.key)[0] == 200,
        "calls are answered again",
    )
    fresh_stack.valkey.process.kill()
    worker.terminate()

    assert worker.wait() == 0


def test_a_job_whose_workers_lease_is_gone_is_run_again(
    fresh_stack: Stack, upstream: Upstream
) -> None:
    """Whatever became of the lease: the job was claimed after it had been taken for dead."""
    upstream.script({"delay": 60})
    web, worker = fresh_stack.web(), fresh_stack.worker()
    account = fresh_stack.account()
    callers = Callers()
    callers.call(web, account.key)
    upstream.wait(received=1)

    # Another is there before: without any, the call would be told so.
    fresh_stack.worker()
    worker.kill()
    fresh_stack.change(f"DELETE FROM leases WHERE pid = {worker.pid}")

    assert Counter(status for status, _, _ in callers.replies()) == {200: 1}
    assert account.standing() == (999, 0)


@ONE_DATABASE
def test_two_workers_share_the_work(fresh_stack: Stack, upstream: Upstream) -> None:
    upstream.script(default={"hold": True})
    web = fresh_stack.web()
    for _ in range(2):
        fresh_stack.worker(worker_concurrency=10)
    account = fresh_stack.account()
    callers = Callers()

    callers.call(web, account.key, times=40)
    upstream.wait(received=20)  # As many as both have slots.
    upstream.release()
    replies = callers.replies()

    assert Counter(status for status, _, _ in replies) == {200: 40}
    by_worker = fresh_stack.query("SELECT worker, count(*) FROM jobs GROUP BY worker")
    assert len(by_worker) == 2
    assert all(count >= 10 for _, count in by_worker)


@LONG_ON_POSTGRESQL
@pytest.mark.slow
def test_a_worker_that_was_frozen_for_too_long_charges_nobody_twice(
    fresh_stack: Stack, upstream: Upstream
) -> None:
    upstream.script(default={"delay": 6})
    web, frozen = fresh_stack.web(), fresh_stack.worker()
    account = fresh_stack.account()
    callers = Callers()

    callers.call(web, account.key, times=10)
    upstream.wait(received=10)
    frozen.child.send_signal(signal.SIGSTOP)
    fresh_stack.worker()
    replies = callers.replies()
    frozen.child.send_signal(signal.SIGCONT)
    wait_until(lambda: len(fresh_stack.live_workers()) == 2, "the frozen one is back")

    assert Counter(status for status, _, _ in replies) == {200: 10}
    nothing_is_left_behind(fresh_stack, account, replies)
    assert account.standing() == (990, 0)
