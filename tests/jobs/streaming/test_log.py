"""A log that becomes one value while it is read loses no event."""

from typing import Any

import pytest
import redis

from jobs.streaming import log as stream_log
from jobs.streaming.messages import UNKNOWN_SOURCE, Events

JOB = "job_1"
#: More than are read at a time.
COUNT = stream_log.PAGE_ENTRIES + 10


def events(first: int, last: int) -> Events:
    data = b"".join(b"data: %d\n\n" % number for number in range(first, last + 1))
    return Events(1, first, last, UNKNOWN_SOURCE, data)


@pytest.fixture
def running(store: redis.Redis) -> None:
    """A job that has published so many events, one by one."""
    for number in range(1, COUNT + 1):
        store.eval(stream_log.APPEND, *stream_log.append_arguments(JOB, events(number, number)))


def finish(store: redis.Redis) -> None:
    with store.pipeline(transaction=False) as pipeline:
        stream_log.finish(pipeline, JOB, events(1, COUNT + 1))
        pipeline.execute()


def numbers(pieces: list[Events]) -> list[int]:
    assert b"".join(piece.data for piece in pieces) == events(pieces[0].first, pieces[-1].last).data
    return [number for piece in pieces for number in range(piece.first, piece.last + 1)]


def test_the_log_of_a_job_that_runs_is_read_from_anywhere(running: None) -> None:
    assert numbers(list(stream_log.read(JOB, 0))) == [*range(1, COUNT + 1)]
    assert numbers(list(stream_log.read(JOB, 7))) == [*range(8, COUNT + 1)]
    assert list(stream_log.read(JOB, COUNT)) == []


def test_a_job_may_end_while_its_log_is_read(running: None, store: redis.Redis) -> None:
    reading = stream_log.read(JOB, 0)

    begun = next(reading)
    finish(store)

    assert numbers([begun, *reading]) == [*range(1, COUNT + 2)]


def test_a_job_may_end_just_before_its_log_is_read(
    running: None, store: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    newest = stream_log._newest

    def too_late(job_id: str) -> list[Any]:
        finish(store)
        return newest(job_id)

    monkeypatch.setattr(stream_log, "_newest", too_late)

    assert numbers(list(stream_log.read(JOB, 3))) == [*range(4, COUNT + 2)]
