"""Streams whose workers die, freeze or stop."""

import signal

import pytest

from tests.conftest import LONG_ON_POSTGRESQL
from tests.events import STREAMED, stream, text_of, value, words
from tests.jobs.streaming.side_by_side import begun, nothing_is_held, rest_of
from tests.stack import Stack, wait_until
from tests.upstream import Upstream


def test_a_workers_sudden_death_ends_its_streams_with_an_error_and_free_of_charge(
    fresh_stack: Stack, upstream: Upstream
) -> None:
    upstream.script(default=words(100_000, gap=0.1))
    web, doomed = fresh_stack.web(), fresh_stack.worker()
    account = fresh_stack.account()
    answers = begun(web, account, count=10, events=3)

    doomed.kill()
    fresh_stack.worker()
    rests = rest_of(answers)

    assert {value(rest[-1])["error"]["code"] for rest in rests} == {"unavailable"}
    nothing_is_held(fresh_stack, account, balance=1000)
    assert {job["status"] for job in account.jobs()} == {"failed"}


@LONG_ON_POSTGRESQL
@pytest.mark.slow
def test_a_stream_of_which_nothing_was_said_yet_is_run_again(
    fresh_stack: Stack, upstream: Upstream
) -> None:
    upstream.script({"delay": 120}, default=words(3))
    web, doomed = fresh_stack.web(stream_commit_seconds=0.1), fresh_stack.worker()
    account = fresh_stack.account()
    answer = stream(web, account.key)
    upstream.wait(received=1)

    doomed.kill()
    fresh_stack.worker()
    events = answer.events()

    assert text_of(events) == "w0 w1 w2 "
    nothing_is_held(fresh_stack, account, balance=999)
    assert [job["attempts"] for job in account.jobs()] == [2]


@LONG_ON_POSTGRESQL
@pytest.mark.slow
def test_a_stream_hung_up_on_while_its_worker_was_dying_is_not_run_for_nobody(
    fresh_stack: Stack, upstream: Upstream
) -> None:
    upstream.script({"delay": 120})
    web, doomed = fresh_stack.web(stream_commit_seconds=0.1), fresh_stack.worker()
    account = fresh_stack.account()
    answer = stream(web, account.key)
    upstream.wait(received=1)

    doomed.kill()
    answer.close()
    fresh_stack.worker()

    nothing_is_held(fresh_stack, account, balance=1000)
    assert {job["status"] for job in account.jobs()} == {"cancelled"}
    assert upstream.counts()["received"] == 1


def test_only_what_was_left_before_it_began_and_is_not_to_finish_is_dropped(
    fresh_stack: Stack, upstream: Upstream
) -> None:
    web = fresh_stack.web(stream_commit_seconds=0.1)
    account = fresh_stack.account()
    staying = stream(web, account.key)  # Somebody waits, so the web process makes upkeep's passes.
    finishing = STREAMED | {"on_disconnect": "finish"}
    left = [stream(web, account.key, finishing) for _ in range(3)]
    for answer in left:
        answer.close()
    dropped, begun_before, to_finish = (answer.job_id for answer in left)
    # A minute passes, one of them is a plain call, and one was handed back by a worker.
    fresh_stack.change("UPDATE jobs SET left_at = 1 WHERE NOT cancel_on_disconnect")
    fresh_stack.change(f"UPDATE jobs SET attempts = 1 WHERE id = '{begun_before}'")
    fresh_stack.change(
        f"UPDATE jobs SET stream = false WHERE id IN ('{dropped}', '{begun_before}')"
    )

    def status(job_id: str) -> str:
        return str(fresh_stack.query("SELECT status FROM jobs WHERE id = :id", id=job_id)[0][0])

    wait_until(lambda: status(dropped) == "cancelled", "what was left in the queue is dropped")

    assert [status(begun_before), status(to_finish)] == ["queued", "queued"]
    fresh_stack.worker()
    staying.events()
    nothing_is_held(fresh_stack, account, balance=997)


@LONG_ON_POSTGRESQL
@pytest.mark.slow
def test_a_worker_that_was_frozen_says_nothing_into_anothers_stream(
    fresh_stack: Stack, upstream: Upstream
) -> None:
    upstream.script(words(3, hold=True), default=words(5, gap=0.5))
    web, frozen = fresh_stack.web(stream_commit_seconds=0.1), fresh_stack.worker()
    account = fresh_stack.account()
    answer = stream(web, account.key)
    upstream.wait(received=1)

    frozen.child.send_signal(signal.SIGSTOP)
    fresh_stack.worker()
    upstream.wait(received=2)
    upstream.release()
    frozen.child.send_signal(signal.SIGCONT)
    events = answer.events()

    assert text_of(events) == "w0 w1 w2 w3 w4 "
    nothing_is_held(fresh_stack, account, balance=999)


@LONG_ON_POSTGRESQL
@pytest.mark.slow
def test_a_worker_told_to_stop_ends_what_it_streams_and_hands_back_what_it_does_not(
    fresh_stack: Stack, upstream: Upstream
) -> None:
    upstream.script(words(30, gap=0.1), words(100_000, gap=0.2), {"delay": 120})
    web, worker = fresh_stack.web(stream_commit_seconds=0.1), fresh_stack.worker()
    account = fresh_stack.account()
    (short,) = begun(web, account, count=1, events=2)
    (long,) = begun(web, account, count=1, events=2)
    silent = stream(web, account.key)
    upstream.wait(received=3)

    worker.terminate()
    other = fresh_stack.worker()
    whole, broken, again = rest_of([short, long, silent])

    assert worker.wait() == 0
    assert whole[-1] == b"data: [DONE]\n\n"
    assert value(broken[-1])["error"]["code"] == "unavailable"
    assert text_of(again) == "Hello from upstream."
    nothing_is_held(fresh_stack, account, balance=998)
    assert other.child.poll() is None
