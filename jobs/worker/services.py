"""What runs in a worker beside its jobs: batches, webhooks, maintenance."""

from collections.abc import Callable

import gevent
from rq.worker import BaseWorker


class Service:
    """Something that runs in a worker from its start to its end."""

    def start(self, worker: BaseWorker) -> None:
        """Begin, in greenlets of its own."""
        raise NotImplementedError

    def line_ended(self) -> None:
        """A batch line has ended in this worker."""

    def finish(self) -> None:
        """Bring what is under way to its end soon, while the last jobs are handed back."""

    def stop(self) -> None:
        """Stop at once: the jobs are done."""


class Loop(Service):
    """A function that is given the worker and runs for as long as the worker does."""

    def __init__(self, function: Callable[[BaseWorker], object]) -> None:
        self._function = function

    def start(self, worker: BaseWorker) -> None:
        self._greenlet = gevent.spawn(self._function, worker)

    def stop(self) -> None:
        self._greenlet.kill()
