"""The outbox: in it with the job's end, out of it by one at a time."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import event, insert

import database
from billing import settlement
from database import engine
from jobs.lifecycle import store
from jobs.webhook import outbox
from jobs.worker import in_flight
from jobs.worker.run_job import RunningJob, run_to_end
from models import webhook
from models.job import Status
from models.webhook import Webhook
from net.call import Call
from tests.job_rows import make_account
from tests.jobs.webhook.outgoing import (
    ANSWER,
    CANCELLED,
    FAILED,
    URL,
    change,
    claim,
    complete,
    kept,
    queue,
    taken,
)

pytestmark = pytest.mark.usefixtures("stored")


class Statements:
    """What the database is asked while a block runs."""

    def __enter__(self) -> list[str]:
        self.said: list[str] = []
        event.listen(engine.engine(), "before_cursor_execute", self._hear)
        return self.said

    def __exit__(self, *_: object) -> None:
        event.remove(engine.engine(), "before_cursor_execute", self._hear)

    def _hear(self, _: Any, __: Any, statement: str, *more: Any) -> None:
        self.said.append(statement)


# ---- Into it -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "kind"),
    [
        (lambda mine: settlement.settle(mine, ANSWER), "job.completed"),
        (lambda mine: settlement.fail(mine, FAILED), "job.failed"),
        (lambda mine: settlement.fail(mine, CANCELLED, status=Status.CANCELLED), "job.cancelled"),
        (lambda mine: settlement.settle_cancelled(mine, ANSWER, CANCELLED), "job.cancelled"),
        (lambda mine: settlement.fail(mine, FAILED, status=Status.EXPIRED), "job.expired"),
    ],
)
def test_whatever_ends_a_claimed_job_puts_that_into_the_outbox(end: Any, kind: str) -> None:
    account = make_account()
    job_id = queue(account)
    mine = claim(job_id)

    assert end(mine).has_webhook
    assert end(mine) is None

    (message,) = kept(job_id)
    assert (message.type, message.url, message.tries) == (kind, URL, 0)
    assert (message.account_id, message.host) == (account, "127.0.0.1:9")


@pytest.mark.parametrize("status", [Status.FAILED, Status.CANCELLED, Status.EXPIRED])
def test_whatever_ends_an_unclaimed_job_puts_that_into_the_outbox(status: Status) -> None:
    job_id = queue(make_account())

    assert settlement.end_unclaimed(job_id, status, FAILED)
    assert not settlement.end_unclaimed(job_id, status, FAILED)

    assert [message.type for message in kept(job_id)] == [f"job.{status}"]


def test_a_stale_attempt_puts_nothing_into_the_outbox() -> None:
    job_id = queue(make_account())
    stale = claim(job_id)
    store.hand_back(stale, [])
    claim(job_id)

    assert settlement.settle(stale, ANSWER) is None
    assert settlement.fail(stale, FAILED) is None

    assert kept(job_id) == []


def test_what_ends_a_job_and_is_undone_leaves_nothing_there() -> None:
    job_id = queue(make_account())
    mine = claim(job_id)
    change(f"INSERT INTO results (job_id, body, expires_at) VALUES ('{job_id}', '', 0)")

    with pytest.raises(Exception, match="results"):
        settlement.settle(mine, ANSWER)

    found = store.find(job_id)
    assert found is not None and found.status == Status.IN_PROGRESS
    assert kept(job_id) == []


def test_a_job_without_a_webhook_costs_no_statement_more() -> None:
    account = make_account()
    without, with_one = claim(queue(account, None)), claim(queue(account))
    settlement.settle(claim(queue(account)), ANSWER)  # What is cached is cached.

    with Statements() as fewer:
        settled = settlement.settle(without, ANSWER)
    with Statements() as more:
        settlement.settle(with_one, ANSWER)

    assert settled is not None and not settled.has_webhook
    assert len(more) == len(fewer) + 2
    assert not any("webhooks" in statement for statement in fewer)


@pytest.mark.parametrize("url", [URL, None])
def test_a_worker_that_ends_a_job_with_a_webhook_does_not_wait_for_its_next_look(
    url: str | None,
) -> None:
    job_id = queue(make_account(), url)
    claimed = store.claim(job_id, "a-worker")
    assert claimed is not None
    in_flight.webhook_due.clear()

    run_to_end(RunningJob(claimed, Call(60)), lambda: ANSWER)

    assert in_flight.webhook_due.is_set() == (url is not None)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://Example.com/hook", "example.com"),
        ("http://example.com:8080?a=//b", "example.com:8080"),
        ("http://[2001:db8::1]:80#x", "[2001:db8::1]:80"),
        ("http://example.com", "example.com"),
        ("", ""),
    ],
)
def test_receivers_are_told_apart_by_host_and_port(url: str, host: str) -> None:
    assert webhook.host_of(url) == host


# ---- Out of it -----------------------------------------------------------------------------------


def test_a_message_is_taken_once_and_again_when_its_worker_is_taken_for_dead() -> None:
    first = taken()

    assert outbox.claim([]) == []
    change(f"UPDATE webhooks SET next_at = next_at - {outbox.CLAIM_SECONDS}")
    (second,) = outbox.claim([])

    assert (second.id, first.tries, second.tries) == (first.id, 1, 2)


def test_who_take_at_the_same_time_take_different_messages() -> None:
    for _ in range(5):
        complete(make_account())
    together = threading.Barrier(4)

    def take(_: int) -> list[str]:
        together.wait()
        return [message.id for message in outbox.claim([])]

    with ThreadPoolExecutor(4) as threads:
        for _ in range(20):
            change("UPDATE webhooks SET next_at = 0")
            found = [one for ids in threads.map(take, range(4)) for one in ids]
            assert Counter(Counter(found).values()) == {1: 5}


def waiting(account_id: int, host: str, number: int = 0) -> Any:
    return SimpleNamespace(id=f"{account_id} {host} {number}", account_id=account_id, host=host)


def test_a_receiver_gets_a_few_at_a_time_and_so_does_an_account() -> None:
    due = [waiting(1, host, number) for host in "abc" for number in range(5)]

    chosen = outbox.choose([*due, waiting(2, "a")], [])

    assert chosen == ["1 a 0", "1 a 1", "1 b 0", "2 a 0"]


def test_what_is_being_sent_counts() -> None:
    sending = [waiting(1, "a", number) for number in range(outbox.MAX_PER_RECEIVER)]

    assert outbox.choose([waiting(1, "a", 7), waiting(1, "b")], sending) == ["1 b 0"]


def test_a_worker_sends_so_many_at_a_time() -> None:
    due = [waiting(number, "a") for number in range(outbox.MAX_SENDING + 10)]

    assert len(outbox.choose(due, [])) == outbox.MAX_SENDING
    assert outbox.choose(due, due[: outbox.MAX_SENDING]) == []


def test_a_receivers_many_messages_hide_nobody_elses() -> None:
    flooded, other = make_account(), make_account()
    complete(flooded)
    flood(outbox.PAGE_SIZE + 10)
    theirs = complete(other)

    first = outbox.claim([])

    assert Counter(message.account_id for message in first) == {
        flooded: outbox.MAX_PER_RECEIVER,
        other: 1,
    }
    assert theirs in [message.job_id for message in first]
    assert outbox.claim(first) == []


def test_an_accounts_many_receivers_hide_nobody_elses() -> None:
    flooded, other = make_account(), make_account()
    complete(flooded)
    flood(outbox.PAGE_SIZE + 10, "http://host-{}.example/hook")
    theirs = complete(other)

    first = outbox.claim([])

    assert Counter(message.account_id for message in first) == {
        flooded: outbox.MAX_PER_ACCOUNT,
        other: 1,
    }
    assert theirs in [message.job_id for message in first]
    assert outbox.claim(first) == []


def flood(count: int, url: str = URL) -> None:
    """Put so many more of the one message there is into the outbox, for `url` with a number."""
    (message,) = outbox.listing(1)
    urls = [url.format(number) for number in range(count)]
    more = [
        {name: getattr(message, name) for name in Webhook.model_fields}
        | {"id": webhook.make_id(), "url": each, "host": webhook.host_of(each)}
        for each in urls
    ]
    database.run(lambda connection: connection.execute(insert(Webhook), more) and None)
