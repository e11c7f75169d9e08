"""Slots: how many jobs of each queue may run at once in one worker."""

from gevent.lock import BoundedSemaphore
from rq import Queue

from jobs import kinds

#: How long a worker waits for a slot before it looks whether it is to stop.
WAIT_SECONDS = 1


class Slots:
    """A worker's slots: those of each queue, within those of all jobs together.

    Batch lines and bulk images have queues of their own, and run among the jobs of their kind.
    """

    def __init__(self, limits: dict[str, int], capacity: int) -> None:
        """`limits`: for each queue's name, how many of its jobs may run at once."""
        self._all = BoundedSemaphore(capacity)
        self._of_queue = {name: BoundedSemaphore(limit) for name, limit in limits.items()}
        #: The limits of queues that cannot fill the whole capacity.
        self._bounded = {name: limit for name, limit in limits.items() if limit < capacity}

    def acquire(self, queue: Queue) -> bool:
        """Take what one job of the queue needs; False where that is not free within seconds."""
        taken: list[BoundedSemaphore] = []
        for slots in self.needed(queue):
            if not slots.acquire(timeout=WAIT_SECONDS):
                _release(taken)
                return False
            taken.append(slots)
        return True

    def release(self, queue: Queue) -> None:
        """Give back what `acquire` took for one job of the queue."""
        _release(self.needed(queue))

    def needed(self, queue: Queue) -> list[BoundedSemaphore]:
        """Return what a job of the queue takes a slot of, in this order."""
        # Its own first: a job that waits for that must not hold what others could run in.
        own, kind = self._of_queue[queue.name], kind_among(queue)
        # Bulk images run for hours: if their kind had one slot, nothing else would ever get it.
        min_limit = 1 if has_lines(queue) else 2
        if kind != queue.name and self._bounded.get(kind, 0) >= min_limit:
            return [own, self._of_queue[kind], self._all]
        return [own, self._all]


def has_lines(queue: Queue) -> bool:
    """Tell whether a queue is one of batch lines."""
    return str(queue.name).endswith(kinds.LINE_SUFFIX)


def kind_among(queue: Queue) -> str:
    """Return the kind of jobs among which those of a queue run."""
    return kinds.by_queue(queue.name).module


def can_wait(queue: Queue) -> bool:
    """Tell whether nobody waits for a queue's jobs, which run among those of another queue."""
    return kind_among(queue) != queue.name


def _release(taken: list[BoundedSemaphore]) -> None:
    for slots in reversed(taken):
        slots.release()
