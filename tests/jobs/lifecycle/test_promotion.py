"""A job that waits for a slot is promoted once there is one, but not before its body is stored."""

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


def hold_without_slot(account_id: int, body_at: BodyAt, created: float) -> str:
    """Hold for a job that gets no slot, and return its id."""
    body = b"{}" if body_at is BodyAt.SQL else None
    return hold(account_id, max_running=0, body=body, body_at=body_at, created=created)


def queued() -> list[str]:
    return queue.queue("chat").get_job_ids()


def test_a_young_job_is_promoted_once_its_body_is_in_redis(account: int) -> None:
    # It stays young, however long this test takes.
    job_id = hold_without_slot(account, BodyAt.REDIS, created=time.time() + 60)

    concurrency.promote_waiting(account)
    assert queued() == []

    queue.enqueue(job_id, "chat", b"{}", has_slot=False)
    concurrency.promote_waiting(account)
    assert queued() == [job_id]


def test_a_job_with_a_body_in_sql_is_promoted_at_once(account: int) -> None:
    job_id = hold_without_slot(account, BodyAt.SQL, created=time.time() + 60)

    concurrency.promote_waiting(account)

    assert queued() == [job_id]


def test_an_old_job_is_promoted_so_that_its_worker_reports_the_lost_body(account: int) -> None:
    job_id = hold_without_slot(account, BodyAt.REDIS, created=time.time() - 60)

    concurrency.promote_waiting(account)

    assert queued() == [job_id]


def test_the_oldest_job_is_promoted_first(account: int) -> None:
    ids = [
        hold_without_slot(account, BodyAt.SQL, created=time.time() - seconds)
        for seconds in (1, 3, 2)
    ]

    concurrency.promote_waiting(account)

    assert queued() == [ids[1], ids[2], ids[0]]
