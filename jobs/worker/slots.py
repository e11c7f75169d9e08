"""Slots: how many jobs of each queue may run at once in one worker."""

from gevent.lock import BoundedSemaphore
from rq import Queue

from jobs import kinds

#: How long a worker waits for a slot before it checks whether it has to stop.
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
        """Take the slots that one job of the queue needs; False if they stay taken for seconds."""
        acquired: list[BoundedSemaphore] = []
        for semaphore in self.semaphores(queue):
            if not semaphore.acquire(timeout=WAIT_SECONDS):
                _release(acquired)
                return False
            acquired.append(semaphore)
        return True

    def release(self, queue: Queue) -> None:
        """Give back what `acquire` took for one job of the queue."""
        _release(self.semaphores(queue))

    def semaphores(self, queue: Queue) -> list[BoundedSemaphore]:
        """Return the semaphores that a job of the queue acquires, in this order."""
        # Its own first: a job that waits for that one must not hold a slot that others could use.
        own, kind = self._of_queue[queue.name], host_kind(queue)
        # Bulk images run for hours: if their kind had one slot, nothing else would ever get it.
        min_limit = 1 if is_line_queue(queue) else 2
        if kind != queue.name and self._bounded.get(kind, 0) >= min_limit:
            return [own, self._of_queue[kind], self._all]
        return [own, self._all]


def is_line_queue(queue: Queue) -> bool:
    """Tell whether a queue holds batch lines."""
    return str(queue.name).endswith(kinds.LINE_SUFFIX)


def host_kind(queue: Queue) -> str:
    """Return the kind of jobs among which those of a queue run."""
    return kinds.by_queue(queue.name).module


def is_background(queue: Queue) -> bool:
    """Tell whether no client waits for a queue's jobs, which run among those of another queue."""
    return host_kind(queue) != queue.name


def _release(semaphores: list[BoundedSemaphore]) -> None:
    for semaphore in reversed(semaphores):
        semaphore.release()
