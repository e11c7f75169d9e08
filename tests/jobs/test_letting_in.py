"""Who waits for a place is let in at once when there is one, but never without its body."""

import time

import pytest
import redis

from access import accounts
from billing import ledger
from jobs.lifecycle import concurrency, queue
from models.job import BodyAt
from tests.job_rows import hold

pytestmark = pytest.mark.usefixtures("stored")


@pytest.fixture
def account(store: redis.Redis) -> int:
    queue.queue.cache_clear()
    account_id = accounts.create("an account", "free")
    ledger.grant(account_id, 1000, "a test")
    return account_id


def wait_for_place(account_id: int, body_at: BodyAt, created: float) -> str:
    """Hold for a job that finds no place, and return its id."""
    body = b"{}" if body_at is BodyAt.SQL else None
    return hold(account_id, most_running=0, body=body, body_at=body_at, created=created)


def queued() -> list[str]:
    return queue.queue("chat").get_job_ids()


def test_a_young_job_is_let_in_when_its_body_has_come(account: int) -> None:
    # However long this takes, it is young.
    job_id = wait_for_place(account, BodyAt.REDIS, created=time.time() + 60)

    concurrency.promote_waiting(account)
    assert queued() == []

    queue.enqueue(job_id, "chat", b"{}", has_place=False)
    concurrency.promote_waiting(account)
    assert queued() == [job_id]


def test_elsewhere_than_in_redis_its_body_is_there_before_it(account: int) -> None:
    job_id = wait_for_place(account, BodyAt.SQL, created=time.time() + 60)

    concurrency.promote_waiting(account)

    assert queued() == [job_id]


def test_a_job_that_waited_long_is_enqueued_though_its_body_is_lost(account: int) -> None:
    job_id = wait_for_place(account, BodyAt.REDIS, created=time.time() - 60)

    concurrency.promote_waiting(account)

    assert queued() == [job_id]


def test_the_oldest_is_the_first(account: int) -> None:
    ids = [
        wait_for_place(account, BodyAt.SQL, created=time.time() - seconds) for seconds in (1, 3, 2)
    ]

    concurrency.promote_waiting(account)

    assert queued() == [ids[1], ids[2], ids[0]]
