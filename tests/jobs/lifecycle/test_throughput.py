"""The estimated wait follows from what was done lately; without that there is none."""

from typing import Any

import pytest

from jobs.lifecycle import throughput

NOW = 1_000_000_000.0


@pytest.fixture
def clock(store: Any, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time as `throughput` sees it, in the first item."""
    now = [NOW]
    monkeypatch.setattr(throughput.time, "time", lambda: now[0])
    throughput._unreported.clear()
    return now


def finish(count: int, kind: str = "chat") -> None:
    for _ in range(count):
        throughput.record_done(kind)
    throughput.report()


def test_a_job_that_does_not_wait_has_no_estimate(clock: list[float]) -> None:
    finish(10)

    assert throughput.wait_seconds("chat", None) is None


def test_without_finished_jobs_there_is_no_estimate(clock: list[float]) -> None:
    assert throughput.wait_seconds("chat", 3) is None


def test_the_estimate_is_the_time_for_the_jobs_ahead(clock: list[float]) -> None:
    for _ in range(3):
        finish(20)
        clock[0] += throughput.BUCKET_SECONDS

    # Two are done in a second.
    assert throughput.wait_seconds("chat", 100) == 50
    assert throughput.wait_seconds("image", 100) is None


def test_what_was_done_long_ago_does_not_count(clock: list[float]) -> None:
    finish(20)
    clock[0] += throughput.BUCKET_SECONDS * throughput.BUCKETS

    assert throughput.wait_seconds("chat", 100) is None


def test_nothing_is_reported_twice(clock: list[float]) -> None:
    clock[0] += 5
    finish(5)
    throughput.report()
    throughput.report()

    assert throughput.wait_seconds("chat", 10) == 10
