"""Maintenance, pass by pass: lost jobs are recovered, whatever else waits."""

import time
from typing import Any

import pytest
import redis
from sqlalchemy import insert

import database
import storage
from access import keys
from jobs.kinds import KINDS
from jobs.lifecycle import bodies as lifecycle_bodies
from jobs.lifecycle import finish, queue
from jobs.lifecycle import store as lifecycle_store
from jobs.maintenance import leases, recovery
from models.errors import JobCancelled, Unavailable
from models.job import Body, BodyAt, Job, Status
from tests.job_rows import job_row, make_account

pytestmark = pytest.mark.usefixtures("stored")


@pytest.fixture(autouse=True)
def emptied(store: redis.Redis) -> Any:
    queue.queue.cache_clear()
    yield store
    queue.queue.cache_clear()


@pytest.fixture
def account() -> int:
    account_id = make_account()
    keys.create(account_id)
    return account_id


def put(account: int, count: int = 1, age: float = 100, **columns: Any) -> list[str]:
    """Write so many queued jobs, enqueued `age` seconds ago, with their bodies in SQL."""
    at = time.time() - age
    queued = {"status": Status.QUEUED, "asynchronous": True, "held": 0, "max_tokens": 1}
    theirs = {"key_id": 1, "body_at": BodyAt.SQL, "created": at, "enqueued_at": at}
    made = [job_row(account, **queued | theirs | columns) for _ in range(count)]
    bodies = [{"job_id": each["id"], "body": b"{}"} for each in made]

    def insert_jobs(connection: Any) -> None:
        connection.execute(insert(Job), made)
        connection.execute(insert(Body), bodies)

    database.run(insert_jobs)
    return [str(each["id"]) for each in made]


def wait_in_the_queue(ids: list[str], **more: Any) -> None:
    """Put jobs in the queue that wait there for a worker."""
    for job_id in ids:
        queue.enqueue_again(job_id, "chat", **more)


def queued(name: str = "chat") -> list[str]:
    return list(queue.queue(name).get_job_ids())


def status(job_id: str) -> str:
    row = lifecycle_store.find(job_id)
    assert row is not None
    return str(row.status)


# ---- Recovered -----------------------------------------------------------------------------------


def test_what_waits_in_its_queue_does_not_hide_what_a_dead_worker_had(account: int) -> None:
    leases.open("alive", 10)
    waiting = put(account, recovery.PAGE_SIZE + 10, batch_id="batch_1")
    wait_in_the_queue(waiting, batch_id="batch_1")
    (dead,) = put(account, age=50, status=Status.IN_PROGRESS.value, worker="dead", attempts=1)

    recovery.end_dead_leases()
    recovery.recover_lost_jobs()

    assert queued() == [dead]
    assert len(queued("chat-lines")) == len(waiting)


def test_what_waits_in_its_queue_does_not_hide_what_redis_lost(
    account: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that waits is looked at in pages, though as much has the same time."""
    monkeypatch.setattr(recovery, "PAGE_SIZE", 10)
    leases.open("alive", 10)
    waiting = put(account, 35)
    wait_in_the_queue(waiting)
    lost = put(account, 5, age=50)

    recovery.recover_lost_jobs()

    assert sorted(queued()) == sorted(waiting + lost)


def test_a_pass_takes_on_so_many_and_those_of_the_dead_first(
    account: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery, "PAGE_SIZE", 10)
    leases.open("alive", 10)
    lost = put(account, 10)
    dead = put(account, 3, age=50, enqueued_at=0)

    recovery.recover_lost_jobs()
    assert len(queued()) == 10
    assert set(dead) < set(queued())

    recovery.recover_lost_jobs()
    assert sorted(queued()) == sorted(lost + dead)


def test_what_was_queued_a_moment_ago_is_not_looked_for(account: int) -> None:
    leases.open("alive", 10)
    put(account, age=1)
    put(account, enqueued_at=None)

    recovery.recover_lost_jobs()

    assert queued() == []


def test_a_storage_that_does_not_answer_is_asked_for_a_few_and_keeps_no_others_waiting(
    account: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    leases.open("alive", 10)
    put(account, 20, body_at=BodyAt.STORAGE.value)
    (other,) = put(account, age=50)
    asked: list[str] = []

    class Silent:
        def load(self, name: str) -> bytes:
            asked.append(name)
            raise Unavailable("The storage does not answer.")

    monkeypatch.setattr(storage, "backend", Silent)

    recovery.recover_lost_jobs()

    assert queued() == [other]
    assert len(asked) == recovery.MAX_STORE_FAILURES


# ---- Without a worker ----------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("attempts", [0, 1])
def test_without_a_worker_an_asynchronous_job_waits_for_one(
    account: int, stream: bool, attempts: int
) -> None:
    (lost,) = put(account, attempts=attempts, enqueued_at=0, stream=stream)

    recovery.recover_lost_jobs()
    assert (status(lost), queued()) == (Status.QUEUED, [])

    leases.open("alive", 10)
    recovery.recover_lost_jobs()
    assert (status(lost), queued()) == (Status.QUEUED, [lost])


def test_without_a_worker_what_somebody_waits_for_fails(
    account: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many wait before it for whom nobody does."""
    monkeypatch.setattr(recovery, "PAGE_SIZE", 10)
    waiting = put(account, 25, enqueued_at=0)
    (lost,) = put(account, age=50, asynchronous=False)

    recovery.recover_lost_jobs()

    assert status(lost) == Status.FAILED
    assert {status(each) for each in waiting} == {Status.QUEUED}


def test_without_a_worker_what_was_cancelled_ends(account: int) -> None:
    (lost,) = put(account, cancel_requested=True)

    recovery.recover_lost_jobs()

    assert status(lost) == Status.CANCELLED


def test_an_asynchronous_job_whose_workers_all_died_fails(account: int) -> None:
    leases.open("alive", 10)
    (lost,) = put(account, attempts=KINDS["chat"].max_attempts)

    recovery.recover_lost_jobs()

    assert status(lost) == Status.FAILED
    # An operator can have it tried again.
    assert lifecycle_bodies.load(lost, BodyAt.SQL) == b"{}"


def test_the_request_of_what_was_cancelled_is_forgotten(account: int) -> None:
    (waiting,) = put(account)
    gone = JobCancelled("The job was cancelled.")

    assert finish.end_unclaimed(waiting, BodyAt.SQL, Status.CANCELLED, gone)

    assert lifecycle_bodies.load(waiting, BodyAt.SQL) is None
