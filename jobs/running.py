"""What this worker process is working on, and how each call can be ended early."""

from collections.abc import Iterator
from contextlib import contextmanager

from config.settings import settings
from models import errors
from providers.http import Call


class HandedBack(errors.Unavailable):
    """The worker is stopping: the job goes back to the queue, for another."""


class LeaseLost(errors.Unavailable):
    """The worker was taken for dead: the job is another's by now."""


class Work:
    """The calls of one worker, by job id."""

    def __init__(self) -> None:
        #: The lease under which jobs are claimed.
        self.lease = ""
        #: False while no job may be begun: before the lease is there, and once it is lost.
        self.may_claim = False
        self.calls: dict[str, Call] = {}
        #: Request bodies that came along when their jobs were taken off the queue.
        self.bodies: dict[str, bytes | None] = {}

    @contextmanager
    def calling(self, job_id: str) -> Iterator[Call]:
        """Give a job its call, known here for as long as it lasts."""
        call = Call(settings.job_timeout_seconds)
        self.calls[job_id] = call
        try:
            yield call
        finally:
            del self.calls[job_id]

    def abort(self, job_id: str, reason: errors.LikeDoError) -> None:
        """End one job's call early, if it is here."""
        if call := self.calls.get(job_id):
            call.abort(reason)

    def abort_all(self, reason: errors.LikeDoError) -> None:
        """End every call early."""
        for call in list(self.calls.values()):
            call.abort(reason)

    def abort_overdue(self, now: float) -> None:
        """End the calls whose deadline is before `now`, a monotonic time."""
        for call in list(self.calls.values()):
            if call.deadline <= now:
                call.abort(
                    errors.ProviderTimeout(
                        f"The provider gave no answer in {settings.job_timeout_seconds:g} seconds."
                    )
                )


work = Work()
