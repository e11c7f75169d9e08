"""A body's pace: at least 8 KiB a second, and an end in sight."""

import pytest

from api.server import pace
from api.server.pace import Pace

KIB = 1024


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(pace, "time", clock)
    return clock


def seconds_until_cut_off(clock: Clock, pace: Pace, bytes_a_second: int) -> float:
    """Send at that rate until the client is cut off, for at most two hours."""
    begun = clock.now
    while (left := pace.seconds_left()) > 0 and clock.now - begun < 7200:
        clock.now += min(1, left)
        if left >= 1:
            pace.count(bytes_a_second)
    return clock.now - begun


@pytest.mark.parametrize(
    ("declared", "seconds", "bytes_a_second", "cut_off_after"),
    [
        # Nothing, or too little, in the 30 s after the first 10.
        (100, None, 0, 40),
        (20_000 * KIB, None, 7 * KIB, 40),
        # Fast enough, but not whole after 60 s and the size at 16 KiB/s.
        (160 * KIB, None, 9 * KIB, 70),
        (1600 * KIB, None, 9 * KIB, 160),
        # The same of a length that is not known: 9 KiB/s have 60 s and 9/16 of each second.
        (None, None, 9 * KIB, 137),
        # A file has an hour, whatever its size.
        (1600 * KIB, 3600, 9 * KIB, 3600),
        (1600 * KIB, 3600, 7 * KIB, 40),
    ],
)
def test_who_is_too_slow_or_too_late_is_cut_off(
    clock: Clock,
    declared: int | None,
    seconds: float | None,
    bytes_a_second: int,
    cut_off_after: float,
) -> None:
    pace = Pace(declared, seconds)

    after = seconds_until_cut_off(clock, pace, bytes_a_second)

    assert after == pytest.approx(cut_off_after, abs=2)


def test_who_stops_after_a_fast_beginning_has_30_seconds(clock: Clock) -> None:
    pace = Pace(20_000 * KIB, None)
    for _ in range(60):
        clock.now += 1
        pace.count(200 * KIB)

    assert pace.seconds_left() == pytest.approx(30, abs=1)
