"""The queries of each call do not get slower with every job that ever was."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import event

import database
from access import accounts, quota
from billing import ledger, queue_limits, settlement
from billing.outcomes import ChatOutcome, UpstreamAttribution
from database import engine
from jobs.lifecycle import bodies, concurrency, listing, retries, store
from jobs.maintenance import expiry, leases, pruning, recovery
from jobs.webhook import outbox
from models.chat import Usage
from models.errors import JobCancelled, Unavailable
from models.job import Status
from storage import files, media
from tests.job_rows import hold

#: Small: their rows are those of what has not ended. The other one holds one job.
SMALL = {
    *("jobs_queued", "jobs_waiting", "jobs_in_progress", "jobs_unfinished", "jobs_left"),
    "sqlite_autoindex_jobs_1",
}


#: Indexes that may be read from one end to the other: they are small, or the reader stops early.
WHOLE = SMALL | {"media_by_time", "webhooks_by_time"}
TABLES = "jobs|media|webhooks|files|results|bodies|shots|idempotency|stored_bodies"


# PostgreSQL chooses by what the tables hold.
pytestmark = pytest.mark.parametrize("stored", ["sqlite"], indirect=True)


@pytest.fixture
def account(stored: None) -> int:
    account_id = accounts.create("an account", "pro")
    ledger.grant(account_id, 1000, "a test")
    return account_id


def settle(account_id: int) -> None:
    job_id = hold(account_id)
    claim = store.claim(job_id, "a-worker")
    assert claim is not None
    settlement.settle(
        claim.job, ChatOutcome({}, Usage(1, 1), UpstreamAttribution("openai", "gpt-4.1"))
    )


def fail(account_id: int) -> None:
    claim = store.claim(hold(account_id), "a-worker")
    assert claim is not None
    settlement.fail(claim.job, Unavailable("No."))


def cancel_waiting(account_id: int) -> None:
    settlement.end_unclaimed(hold(account_id), Status.CANCELLED, JobCancelled("No."))


def show_position(account_id: int) -> None:
    row = store.find(hold(account_id))
    assert row is not None
    store.position(row)


@pytest.mark.parametrize(
    "statements",
    [
        *(hold, settle, fail, cancel_waiting, show_position),
        *(concurrency.promote_waiting, lambda _: concurrency.promote_all_waiting()),
        lambda _: leases.jobs_under("a-worker"),
        lambda _: leases.requeue_orphans("a-worker", ["a-job"]),
        lambda _: recovery.end_dead_leases(),
        lambda _: expiry.cancel_abandoned_jobs(),
        lambda _: expiry.end_overdue_waits(),
    ],
)
def test_only_what_has_not_ended_is_read(account: int, statements: Callable[[int], object]) -> None:
    executed = executed_by(lambda: statements(account), r"\b(FROM|UPDATE) jobs\b")

    assert executed
    for statement, parameters in executed:
        for step in plan(statement, parameters):
            index = re.search(r"\bjobs USING (?:COVERING )?INDEX (\w+)", step)
            assert index is None or index[1] in SMALL, (statement, step)
            assert index is not None or " jobs" not in step, (statement, step)


def executed_by(
    statements: Callable[[], object], pattern: str = f"FROM (?:{TABLES})"
) -> list[tuple[str, Any]]:
    """Run some statements, and return those that match, with their parameters."""
    executed: list[tuple[str, Any]] = []

    def note(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> None:
        if re.search(pattern, statement):
            executed.append((statement, parameters))

    event.listen(engine.engine(), "before_cursor_execute", note)
    statements()
    event.remove(engine.engine(), "before_cursor_execute", note)
    return executed


def plan(statement: str, parameters: Any) -> list[str]:
    """Return how SQLite goes about a statement, step by step."""
    with engine.engine().connect() as connection:
        found = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
        return [str(row[-1]) for row in found]


def plan_of(statement: Any, **parameters: Any) -> list[str]:
    """Return how SQLite goes about a statement that was not run yet, step by step."""
    compiled = statement.compile(engine.engine())
    values = compiled.params | parameters
    return plan(str(compiled), tuple(values[name] for name in compiled.positiontup))


def test_the_limits_of_the_queue_are_checked_without_reading_a_job(account: int) -> None:
    counts = [step for step in plan_of(queue_limits._WAITING, account=1) if " jobs " in step]

    index = "jobs USING COVERING INDEX jobs_waiting"
    assert counts == [f"SEARCH {index} (account_id=?)", f"SCAN {index}"]


def test_what_an_account_keeps_is_summed_up_by_indexes(account: int) -> None:
    steps = plan_of(quota._STORED, account=1)

    indexes = {match[0] for step in steps if (match := re.search(r"[a-z_0-9]+ \(.*", step))}
    assert indexes == {
        "files_by_account (account_id=?)",
        "batches_not_done_by_account (account_id=?)",
        "sqlite_autoindex_files_1 (id=?)",
        "bodies_by_account (account_id=?)",
        "jobs_unfinished (account_id=? AND enqueued_at=? AND batch_id=?)",
        "jobs_unfinished (account_id=? AND enqueued_at>?)",
    }


def test_a_retry_finds_its_job_among_those_of_the_same_body(account: int) -> None:
    (step, *_) = plan_of(retries._joinable(1, "f" * 64, 1))

    assert "USING INDEX jobs_by_fingerprint" in step


@pytest.mark.parametrize(
    "statements",
    [
        *(pruning.prune, bodies.forget_orphaned, media.forget_expired, files.forget_expired),
        lambda: list(recovery._long_queued()),
        *(lambda: outbox.claim([]), lambda: database.run(outbox._due_by_account)),
        *(lambda: outbox.listing(20), lambda: media.listing(20)),
        *(
            lambda status=status, kind=kind, account=account: listing.newest(
                20, account, status, kind
            )
            for status in (None, *map(str, Status))
            for kind in (None, "image")
            for account in (None, 1)
        ),
    ],
)
def test_maintenance_and_listings_read_no_table_whole(
    account: int, statements: Callable[[], object]
) -> None:
    executed = executed_by(statements)

    assert executed
    for statement, parameters in executed:
        steps = plan(statement, parameters)
        for step in steps:
            match = re.match(
                rf"(SCAN|SEARCH) ({TABLES})\b(?: USING (?:COVERING )?INDEX (\w+))?", step
            )
            # What ends early: the oldest rows by their key, and the newest by their time.
            is_short = match is None or match[1] == "SEARCH" or match[2] == "leases"
            assert is_short or match and match[3] in WHOLE or step == "SCAN shots", (
                statement,
                steps,
            )
        assert "USE TEMP B-TREE FOR ORDER BY" not in steps or "jobs" in statement, steps
