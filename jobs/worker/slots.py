"""Slots: how many jobs of each queue may run at once."""

from gevent.lock import BoundedSemaphore
from rq import Queue

from jobs import kinds

#: An empty queue of lines is looked at again after this.
LINES_SECONDS = 0.25


def has_lines(queue: Queue) -> bool:
    """Tell whether a queue is one of batches' lines."""
    return str(queue.name).endswith(kinds.LINES)


def kind_among(queue: Queue) -> str:
    """Return the kind of jobs among which those of a queue run."""
    return kinds.runs_as(kinds.kind_of(queue.name))


def can_wait(queue: Queue) -> bool:
    """Tell whether a queue's jobs run among those of another, and nobody waits for them."""
    return kind_among(queue) != queue.name


def release(taken: list[BoundedSemaphore]) -> None:
    for slots in reversed(taken):
        slots.release()
