"""The interface of services in a worker, beside its jobs: batches, webhooks, maintenance."""

from collections.abc import Callable

import gevent
from rq.worker import BaseWorker


class Service:
    """A service that runs in a worker from its start to its end."""

    def start(self, worker: BaseWorker) -> None:
        """Begin, in greenlets of its own."""
        raise NotImplementedError

    def line_ended(self) -> None:
        """React to the end of a batch line in this worker."""

    def finish(self) -> None:
        """Finish soon what is in progress, while the last jobs are handed back."""

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
