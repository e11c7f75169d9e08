"""Who advances which batch: an account has so many at a time, and hides nobody else's."""

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
from gevent.event import Event
from sqlalchemy import event, insert, select, update
from sqlmodel import col

import database
from access import accounts, keys
from billing.outcomes import ClaimedJob
from config.settings import settings
from database import engine
from jobs.batch import dispatch, ownership
from jobs.batch import store as batch_store
from jobs.batch.runner import Runner
from jobs.maintenance import leases
from jobs.worker.in_flight import WorkerState, this_worker
from models.batch import Batch, make_id
from models.lease import Lease

MOST = batch_store.MAX_ACTIVE_PER_ACCOUNT


@pytest.fixture(autouse=True)
def workers(stored: None) -> None:
    for name in ("one", "two"):
        leases.open(name, 10)


def make_account() -> int:
    account_id = accounts.create(f"account-{time.monotonic_ns()}", "pro")
    keys.create(account_id)
    return account_id


def put(account: int, count: int, created: float, **columns: Any) -> list[str]:
    """Write so many batches of the account, the first of them `created` then."""
    row = {
        "account_id": account,
        "key_id": 1,
        "endpoint": "/v1/chat/completions",
        "kind": "chat",
        "input_file_id": "file",
        "output_seconds": 1,
        "status": "in_progress",
        "address": "",
        "fingerprint": "",
        "expires_at": 10**10,
        "is_done": False,
    }
    made = [
        row | columns | {"id": make_id(), "created": created + number} for number in range(count)
    ]
    database.run(lambda connection: connection.execute(insert(Batch), made) and None)
    return [str(each["id"]) for each in made]


def held_by_account(worker: str | None = None) -> Counter[int]:
    query = select(col(Batch.account_id)).where(
        col(Batch.worker).is_not(None) if worker is None else col(Batch.worker) == worker
    )
    return Counter(database.run(lambda connection: list(connection.execute(query).scalars())))


def test_an_accounts_many_batches_hide_nobody_elses() -> None:
    many, other = make_account(), make_account()
    oldest = put(many, 2000, created=1)
    theirs = put(other, 1, created=5000)

    taken = ownership.acquire("one", [], 100)

    assert taken == oldest[:MOST] + theirs
    assert ownership.acquire("one", taken, 100) == []
    assert ownership.acquire("two", [], 100) == []


def test_with_few_places_each_account_has_its_turn() -> None:
    many, other = make_account(), make_account()
    put(many, 10, created=1)
    put(other, 10, created=5000)

    first = ownership.acquire("one", [], 4)
    second = ownership.acquire("two", [], 2)

    assert (len(first), len(second)) == (4, 2)
    assert held_by_account() == {many: 3, other: 3}


def test_what_other_workers_advance_counts() -> None:
    account, other = make_account(), make_account()
    put(account, MOST - 3, created=1, worker="two")
    put(account, 5, created=1, worker="two", is_done=True)
    next_ones = put(account, 10, created=100)
    put(other, MOST - 1, created=1, worker="two")
    theirs = put(other, 5, created=200)

    assert ownership.acquire("one", [], 100) == next_ones[:3] + theirs[:1]


def test_what_the_dead_advanced_is_taken_on_and_what_a_worker_let_go_of() -> None:
    account = make_account()
    dead = put(account, 2, created=1, worker="dead")
    let_go = put(account, 2, created=10, worker="one")
    known = put(account, MOST - 3, created=20, worker="one")

    # One place is left beside those that are known.
    assert ownership.acquire("one", known, 100) == (dead + let_go)[:3]


def test_workers_that_look_at_the_same_time_take_different_batches() -> None:
    for _ in range(5):
        put(make_account(), 10, created=1)

    with ThreadPoolExecutor(2) as both:
        one, two = both.map(lambda name: ownership.acquire(name, [], 30), ("one", "two"))

    assert not set(one) & set(two)
    assert len(one) + len(two) <= 50
    assert sum(held_by_account("one").values()) == len(one)
    assert sum(held_by_account("two").values()) == len(two)


def test_looking_costs_as_many_statements_for_a_thousand_as_for_one() -> None:
    put(make_account(), 1000, created=1)
    said: list[str] = []

    def hear(_: Any, __: Any, statement: str, *more: Any) -> None:
        said.append(statement)

    event.listen(engine.engine(), "before_cursor_execute", hear)
    taken = ownership.acquire("one", [], 100)
    event.remove(engine.engine(), "before_cursor_execute", hear)

    assert len(taken) == MOST
    assert sum("batches" in statement for statement in said) == 2


def test_there_is_never_less_than_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another worker may have fed more than this one would."""
    monkeypatch.setattr(settings, "worker_concurrency", 50)

    assert [dispatch.room(running) for running in (0, 49, 50, 100)] == [50, 1, 0, 0]


def test_a_batch_that_a_worker_takes_on_twice_is_advanced_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    [batch_id] = put(make_account(), 1, created=1)
    monkeypatch.setattr(this_worker, "lease", "one")
    runner, may_go_on, asked = Runner(), Event(), list[str]()

    def is_stopping() -> bool:
        asked.append(batch_id)
        return may_go_on.wait()

    runner._acquire(is_stopping)
    # The worker was frozen for longer than its lease lasts.
    database.execute(update(Lease).where(col(Lease.name) == "one").values(last_seen=0))
    runner._acquire(is_stopping)
    may_go_on.set()
    runner.greenlets.join(raise_error=True)

    assert held_by_account("one").total() == 1
    assert (asked, runner.owned) == ([batch_id], {})


def test_a_job_that_begins_anew_here_is_not_forgotten_with_its_call_of_before() -> None:
    state, job = WorkerState(), ClaimedJob("job", 1, 1, 1, "1+3")
    with state.calling(job) as first, ExitStack() as later:
        second = later.enter_context(state.calling(job))
        anew = later.pop_all()
        assert first is not second

    assert state.calls == {"job": second}
    anew.close()
    assert state.calls == {}
