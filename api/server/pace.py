"""How fast and for how long a client sends a body: too slow or too late, and it is cut off."""

import time
from collections import deque

from config.settings import settings


class Pace:
    """The bytes of one body by the time of their arrival, since it was first waited for."""

    def __init__(self, declared: int | None, seconds: float | None) -> None:
        """`declared`: the size of the body in bytes; None if the client did not say.

        `seconds`: the most that the whole body may take; None if they follow from its size.
        """
        self.declared = declared
        self.seconds = seconds
        self.started_at = time.monotonic()
        self.received = 0
        #: (second, bytes) of what arrived lately, one entry for each second.
        self._arrivals: deque[tuple[float, int]] = deque()

    def count(self, size: int) -> None:
        """Record the arrival of `size` bytes."""
        now = time.monotonic()
        self.received += size
        if self._arrivals and now - self._arrivals[-1][0] < 1:
            at, counted = self._arrivals.pop()
            self._arrivals.append((at, counted + size))
        else:
            self._arrivals.append((now, size))
        while self._arrivals[0][0] < now - settings.body_rate_seconds - 1:
            self._arrivals.popleft()

    def seconds_left(self) -> float:
        """Return how long the client may now send nothing; 0 or less if it is cut off already."""
        return min(self._slow_at(), self._late_at()) - time.monotonic()

    def _late_at(self) -> float:
        if self.seconds is not None:
            return self.started_at + self.seconds
        size = self.received if self.declared is None else self.declared
        return self.started_at + settings.max_body_seconds + size / (2 * settings.min_body_rate)

    def _slow_at(self) -> float:
        """Return when the bytes of one whole window will be too few if no more arrive.

        Windows begin after the first `BODY_START_SECONDS`.
        """
        window = settings.body_rate_seconds
        first = self.started_at + settings.body_start_seconds + window
        total = 0
        for at, size in reversed(self._arrivals):
            total += size
            if total >= settings.min_body_rate * window:
                return max(first, at + window)
        return first
