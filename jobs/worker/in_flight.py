"""The jobs that run in this worker: their calls, bodies and limits."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import orjson
from gevent.event import Event

from config.settings import settings
from models import errors
from models.errors import JobCancelled, LikeDoError, ProviderTimeout, Unavailable
from net.call import Call

#: A web process that lost its connection to Redis is back within this time, unless it is dead.
UNHEARD_SECONDS = 10


class HandedBack(Unavailable):
    """The worker is stopping: the job goes back to the queue, for another."""


class LeaseLost(Unavailable):
    """The worker was taken for dead: the job is another's by now."""


class Unheard(JobCancelled):
    """A web process is gone, and with it the client: a failure of ours, which costs nothing."""


class WorkerState:
    """The calls of one worker, by job id."""

    def __init__(self) -> None:
        #: The lease under which jobs are claimed.
        self.lease = ""
        #: False while no job may be begun: before the lease is there, and once it is lost.
        self.may_claim = False
        #: Whether the worker was told to stop.
        self.is_stopping = False
        self.calls: dict[str, Call] = {}
        #: Request bodies that came along when their jobs were taken off the queue.
        self.bodies: dict[str, bytes | None] = {}
        #: Jobs that end when nobody listens any more, and when somebody was last seen to.
        self.heard_at: dict[str, float] = {}

    @contextmanager
    def calling(self, job_id: str, seconds: float | None = None) -> Iterator[Call]:
        """Give a job its call of so many seconds, known here for as long as it lasts."""
        call = Call(seconds or settings.job_timeout_seconds)
        self.calls[job_id] = call
        try:
            yield call
        finally:
            del self.calls[job_id]
            self.heard_at.pop(job_id, None)

    def expect_listeners(self, job_id: str) -> None:
        """End this job when nobody listens to it for a while."""
        self.heard_at[job_id] = time.monotonic()

    def abort_unheard(self, heard: Mapping[str, bool], now: float) -> None:
        """Note which jobs are listened to; end those to which nobody has listened for long."""
        for job_id in heard.keys() & self.heard_at.keys():
            if heard[job_id]:
                self.heard_at[job_id] = now
            elif now - self.heard_at[job_id] > UNHEARD_SECONDS:
                self.abort(job_id, Unheard("Nobody listens to the stream any more."))

    def abort(self, job_id: str, reason: LikeDoError) -> None:
        """End one job's call early, if it is here."""
        if call := self.calls.get(job_id):
            call.abort(reason)

    def abort_all(self, reason: LikeDoError) -> None:
        """End every call early."""
        for call in list(self.calls.values()):
            call.abort(reason)

    def abort_overdue(self, now: float) -> None:
        """End the calls whose deadline is before `now`, a monotonic time."""
        for call in list(self.calls.values()):
            if call.deadline <= now:
                call.abort(
                    ProviderTimeout(
                        f"The provider gave no answer in {settings.job_timeout_seconds:g} seconds."
                    )
                )


this_worker = WorkerState()


def obey(message: bytes) -> None:
    """End the job that `message`, as published by `cancel`, names, if it runs here."""
    told = orjson.loads(message)
    this_worker.abort(told["job"], errors.from_record(told["why"]))


#: Set when a message may be due in this process, which is then not left to the next poll.
webhook_due = Event()
