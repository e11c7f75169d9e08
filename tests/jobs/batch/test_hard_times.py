"""Batches whose workers die, stop or freeze: each line is answered once and paid for once."""

import signal
from collections import Counter
from pathlib import Path

import pytest
from openai.types import Batch

from tests.batches import OVER, Batches, chats, counts, line, the_books_are_right
from tests.callers import HELLO, Callers
from tests.conftest import LONG_ON_POSTGRESQL, ONE_DATABASE, provider_settings
from tests.servers.s3 import S3Server, aws_settings
from tests.stack import Account, Stack, fetch, stack, wait_until
from tests.upstream import Upstream


def every_line_is_answered_once(
    batches: Batches, batch: Batch, account: Account, count: int, granted: int = 1000
) -> None:
    """Assert what holds after every disaster."""
    assert (batch.status, counts(batch)) == ("completed", (count, count, 0))
    output = batches.output(batch)
    assert [each["custom_id"] for each in output] == [f"line-{n}" for n in range(count)]
    assert len({each["response"]["request_id"] for each in output}) == count
    assert {each["response"]["body"]["credits_consumed"] for each in output} == {1}
    assert batches.errors(batch) == []
    assert len(account.jobs()) == count
    assert account.entries().count(("charge", -1)) == count
    assert account.standing() == (granted - count, 0)
    the_books_are_right(account, granted)


def done(batches: Batches, batch: Batch) -> int:
    return counts(batches.now(batch))[1]


@pytest.mark.long
def test_a_thousand_lines_outlive_three_workers(fresh_stack: Stack, upstream: Upstream) -> None:
    upstream.script(default={"delay": 0.3})
    account = fresh_stack.account(credits=1000)
    batches = Batches(fresh_stack.web(), account)
    batch = batches.create(chats(1000))

    for reached in (200, 450, 700):
        doomed = fresh_stack.worker()
        wait_until(lambda n=reached: done(batches, batch) >= n, f"{reached} are answered")
        doomed.kill()
    fresh_stack.worker()
    batch = batches.until(batch, *OVER, seconds=120)

    every_line_is_answered_once(batches, batch, account, 1000)
    batches.close()


@pytest.mark.long
def test_a_batch_outlives_workers_that_die_at_any_step(
    fresh_stack: Stack, upstream: Upstream
) -> None:
    """The first is killed while it checks the file, the last while it writes the answers."""
    account = fresh_stack.account(credits=2000)
    batches = Batches(fresh_stack.web(), account)
    batch = batches.create(chats(2000))

    def lines() -> int:
        return int(fresh_stack.query("SELECT count(*) FROM batch_lines")[0][0])

    checking = fresh_stack.worker()
    wait_until(lambda: lines() > 0, "lines are being written down")
    checking.kill()
    feeding = fresh_stack.worker()
    wait_until(lambda: done(batches, batch) >= 100, "some are answered", seconds=120)
    feeding.kill()
    writing = fresh_stack.worker()
    batches.until(batch, "finalizing", *OVER, seconds=120)
    writing.kill()
    fresh_stack.worker()
    batch = batches.until(batch, *OVER, seconds=120)

    every_line_is_answered_once(batches, batch, account, 2000, granted=2000)
    wait_until(lambda: lines() == 0, "the batch is tidied up")
    batches.close()


@LONG_ON_POSTGRESQL
@pytest.mark.slow
def test_a_worker_that_was_frozen_feeds_no_line_twice(
    fresh_stack: Stack, upstream: Upstream
) -> None:
    upstream.script(default={"hold": True})
    account = fresh_stack.account()
    batches = Batches(fresh_stack.web(), account)
    frozen = fresh_stack.worker()
    batch = batches.create(chats(150))
    # While all that may run waits for its answers, nothing is being written that would stay locked.
    upstream.wait(received=100)

    frozen.child.send_signal(signal.SIGSTOP)
    upstream.release()
    fresh_stack.worker()
    wait_until(lambda: done(batches, batch) >= 100, "another goes on")
    frozen.child.send_signal(signal.SIGCONT)
    batch = batches.until(batch, *OVER)
    wait_until(lambda: len(fresh_stack.live_workers()) == 2, "the frozen one is back")

    every_line_is_answered_once(batches, batch, account, 150)
    batches.close()


def test_a_worker_told_to_stop_leaves_its_batch_to_the_next(
    fresh_stack: Stack, upstream: Upstream
) -> None:
    upstream.script(default={"delay": 0.5})
    account = fresh_stack.account()
    batches = Batches(fresh_stack.web(), account)
    batch = batches.create(chats(300))
    first = fresh_stack.worker()
    wait_until(lambda: done(batches, batch) >= 50, "some are answered")

    first.terminate()
    stopped = first.wait()
    second = fresh_stack.worker()
    batch = batches.until(batch, *OVER)

    assert stopped == 0
    assert "Traceback" not in first.said() + second.said()
    every_line_is_answered_once(batches, batch, account, 300)
    batches.close()


def test_two_workers_share_a_batch(fresh_stack: Stack, upstream: Upstream) -> None:
    upstream.script(default={"hold": True})
    account = fresh_stack.account()
    batches = Batches(fresh_stack.web(), account)
    for _ in range(2):
        fresh_stack.worker(worker_concurrency=80)

    batch = batches.create(chats(200))
    upstream.wait(received=40)  # A quarter of both workers' slots.
    upstream.release()
    batch = batches.until(batch, *OVER)

    every_line_is_answered_once(batches, batch, account, 200)
    by_worker = fresh_stack.query("SELECT worker, count(*) FROM jobs GROUP BY worker")
    assert len(by_worker) == 2 and all(count >= 20 for _, count in by_worker)
    batches.close()


@ONE_DATABASE
def test_a_redis_that_forgets_loses_no_line(fresh_stack: Stack, upstream: Upstream) -> None:
    upstream.script(default={"delay": 0.5})
    account = fresh_stack.account()
    batches = Batches(fresh_stack.web(), account)
    fresh_stack.worker(worker_concurrency=80)
    batch = batches.create(chats(150))
    upstream.wait(received=20)

    fresh_stack.valkey.process.kill()
    fresh_stack.valkey.start()  # Nothing was kept: it comes back empty.
    batch = batches.until(batch, *OVER, seconds=120)

    every_line_is_answered_once(batches, batch, account, 150)
    batches.close()


@LONG_ON_POSTGRESQL
@pytest.mark.slow
def test_lines_wait_for_a_worker_while_there_is_none(
    fresh_stack: Stack, upstream: Upstream
) -> None:
    """Another's call ends with an error meanwhile: it would wait at its connection."""
    upstream.script(default={"delay": 60})
    web, account = fresh_stack.web(), fresh_stack.account()
    batches, callers = Batches(web, account), Callers()
    doomed = fresh_stack.worker()
    batch = batches.create(chats(20))
    callers.call(web, account.key)
    upstream.wait(received=21)

    doomed.kill()
    ((status, _, _),) = callers.replies()
    meanwhile = batches.now(batch)
    upstream.script(default={})
    fresh_stack.worker()
    batch = batches.until(batch, *OVER)

    assert status == 503
    assert (meanwhile.status, counts(meanwhile)) == ("in_progress", (20, 0, 0))
    assert (batch.status, counts(batch)) == ("completed", (20, 20, 0))
    assert account.standing() == (980, 0)
    the_books_are_right(account, 1000)
    batches.close()


def test_lines_that_wait_in_the_queue_are_cancelled_free_of_charge(
    fresh_stack: Stack, upstream: Upstream
) -> None:
    upstream.script(default={"delay": 60})
    account = fresh_stack.account()
    batches = Batches(fresh_stack.web(), account)
    fresh_stack.worker(worker_concurrency=8)
    batch = batches.create(chats(30))
    upstream.wait(received=2)
    wait_until(lambda: len(account.jobs()) == 8, "a worker's worth is in the queue")

    batches.sdk.batches.cancel(batch.id)
    batch = batches.until(batch, "cancelled")

    # A quarter of the slots is for lines: two ran, six waited, the others had not begun.
    assert len(upstream.calls()) == 2
    assert counts(batch) == (30, 0, 30)
    errors = batches.errors(batch)
    assert [each["custom_id"] for each in errors] == [f"line-{n}" for n in range(30)]
    assert Counter(bool(each["response"]) for each in errors) == {True: 2, False: 28}
    assert account.standing() == (998, 0)
    the_books_are_right(account, 1000)
    batches.close()


@ONE_DATABASE
def test_a_worker_with_a_single_slot_runs_chats_and_lines(
    fresh_stack: Stack, upstream: Upstream
) -> None:
    web, account = fresh_stack.web(), fresh_stack.account()
    batches = Batches(web, account)
    fresh_stack.worker(worker_concurrency=1, image_concurrency=1)

    batch = batches.create(chats(3))
    status, _, _ = fetch(f"{web}/v1/chat/completions", HELLO, key=account.key)
    batch = batches.until(batch, "completed")

    assert status == 200
    assert counts(batch) == (3, 3, 0)
    assert account.standing() == (996, 0)
    batches.close()


@ONE_DATABASE
def test_chats_are_answered_while_a_batch_runs(fresh_stack: Stack, upstream: Upstream) -> None:
    """Lines take a quarter of the slots, however many there are."""
    upstream.script(*[{"delay": 60}] * 2, default={})
    web, account = fresh_stack.web(), fresh_stack.account()
    batches = Batches(web, account)
    fresh_stack.worker(worker_concurrency=8)
    batch = batches.create([line(f"line-{n}") for n in range(8)])
    upstream.wait(received=2)

    replies = [fetch(f"{web}/v1/chat/completions", HELLO, key=account.key) for _ in range(5)]

    assert {status for status, _, _ in replies} == {200}
    assert counts(batches.now(batch))[1] == 0
    batches.sdk.batches.cancel(batch.id)
    assert counts(batches.until(batch, "cancelled")) == (8, 0, 8)
    batches.close()


def test_a_batch_in_a_bucket(upstream: Upstream, tmp_path: Path) -> None:
    upstream.script({"status": 400, "json": {"error": {"message": "No."}}})
    s3 = S3Server(tmp_path)
    s3.reset("batches")
    in_bucket = {"s3_bucket": "batches", "s3_endpoint_url": s3.url}
    with stack(**provider_settings(upstream), **in_bucket, **aws_settings()) as made:
        account = made.account()
        batches = Batches(made.web(), account)
        made.worker()

        batch = batches.run(chats(20))

        assert (batch.status, counts(batch)) == ("completed", (20, 19, 1))
        assert (len(batches.output(batch)), len(batches.errors(batch))) == (19, 1)
        batches.sdk.files.delete(batch.input_file_id)
        with s3.client() as client:
            kept = client.list_objects_v2(Bucket="batches")["Contents"]
        names = {batch.output_file_id, batch.error_file_id}
        assert {each["Key"] for each in kept} == {f"files/{name}" for name in names}
        batches.close()
    s3.process.kill()


def test_nothing_of_a_suspended_account_begins(fresh_stack: Stack, upstream: Upstream) -> None:
    upstream.script(default={"hold": True})
    account = fresh_stack.account()
    batches = Batches(fresh_stack.web(), account)
    fresh_stack.worker()
    batch = batches.create(chats(250))
    upstream.wait(received=50)

    fresh_stack.run("accounts", "suspend", account.name)
    upstream.release()
    wait_until(lambda: fresh_stack.unfinished() == 0, "what had begun has ended")
    begun = len(account.jobs())
    fresh_stack.run("accounts", "suspend", account.name, "--undo")
    batch = batches.until(batch, *OVER)

    assert begun < 250
    every_line_is_answered_once(batches, batch, account, 250)
    batches.close()
