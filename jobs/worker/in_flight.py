"""The jobs in flight in this worker: their calls, bodies and limits."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import orjson
from gevent.event import Event

from billing.outcomes import ClaimedJob
from config.settings import settings
from models import errors
from models.errors import JobCancelled, LikeDoError, ProviderTimeout, Unavailable
from net.call import Call

#: A web process that lost its connection to Redis reconnects within this time, unless it is dead.
LISTENER_GRACE_SECONDS = 10


def source_of(account_id: int) -> str:
    """Return the source of an account's calls, among which what is scarce is shared."""
    return f"account {account_id}"


class HandedBack(Unavailable):
    """The worker is stopping: the job goes back to the queue, for another worker."""


class LeaseLost(Unavailable):
    """The worker was taken for dead: the job belongs to another by now."""


class ClientGone(JobCancelled):
    """A web process died, and its client with it: our failure, so the job is free of charge."""


class WorkerState:
    """What one worker knows of its jobs, by job id."""

    def __init__(self) -> None:
        #: The lease under which jobs are claimed.
        self.lease = ""
        #: False while no job may be claimed: before the lease is there, and once it is lost.
        self.may_claim = False
        #: Whether the worker is stopping.
        self.is_stopping = False
        self.calls: dict[str, Call] = {}
        #: Request bodies that were fetched when their jobs were taken off the queue.
        self.bodies: dict[str, bytes | None] = {}
        #: For each job that ends when its listeners are gone: when it last had one.
        self.listened_at: dict[str, float] = {}

    @contextmanager
    def calling(self, job: ClaimedJob, seconds: float | None = None) -> Iterator[Call]:
        """Give a job a call of so many seconds, and register it here for as long as it lasts."""
        call = Call(seconds or settings.job_timeout_seconds, source_of(job.account_id))
        self.calls[job.id] = call
        try:
            yield call
        finally:
            # After a lapse of the lease the job may have begun anew here, and this call just ended.
            if self.calls.get(job.id) is call:
                del self.calls[job.id]
                self.listened_at.pop(job.id, None)

    def expect_listeners(self, job_id: str) -> None:
        """End this job once it has had no listener for a while."""
        self.listened_at[job_id] = time.monotonic()

    def abort_abandoned(self, has_listener: Mapping[str, bool], now: float) -> None:
        """Note which jobs have a listener; end those that have had none for too long."""
        for job_id in has_listener.keys() & self.listened_at.keys():
            if has_listener[job_id]:
                self.listened_at[job_id] = now
            elif now - self.listened_at[job_id] > LISTENER_GRACE_SECONDS:
                self.abort(job_id, ClientGone("Nobody listens to the stream any more."))

    def abort(self, job_id: str, reason: LikeDoError) -> None:
        """End one job's call early, if the job is in flight here."""
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


def abort_by_message(message: bytes) -> None:
    """End the job named in a `message` published by `jobs.lifecycle.cancel`, if it runs here."""
    fields = orjson.loads(message)
    this_worker.abort(fields["job"], errors.from_record(fields["why"]))


#: Set when a webhook may be due in this process, so that it need not wait for the next poll.
webhook_due = Event()
