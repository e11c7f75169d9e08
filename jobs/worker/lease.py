"""The worker's lease: kept, lost, and compared with the rows that name it."""

import time

import structlog

from jobs.lifecycle import store
from jobs.maintenance import leases
from jobs.worker.in_flight import LeaseLost, this_worker
from jobs.worker.publisher import publisher
from models.errors import JobCancelled, Unavailable
from models.lease import LEASE_SECONDS, RENEWAL_SECONDS

log = structlog.get_logger()

#: Without a renewal for this long, another may soon take the jobs over: stop working on them.
MARGIN_SECONDS = 2


class LeaseKeeper:
    """Renews the lease called `name`, and aborts what may no longer run under it."""

    def __init__(self, name: str, capacity: int) -> None:
        self.name = name
        self.capacity = capacity
        self._renewed_at = 0.0
        #: Jobs that their rows give to this worker and that were unknown here at the last look.
        self._orphans: set[str] = set()

    def keep(self, running: int) -> None:
        """Renew the lease if that is due; `running` is how many jobs the worker has."""
        since = time.monotonic() - self._renewed_at
        if this_worker.may_claim and since < RENEWAL_SECONDS:
            return
        kept = self._renew(running, since)
        if not kept and this_worker.may_claim:
            _lose_jobs()
        this_worker.may_claim = kept
        if kept:
            self._compare_with_rows()

    def close(self) -> None:
        """End the lease: what it had is free for others. Raises `Unavailable`."""
        leases.close(self.name)

    def _renew(self, running: int, since: float) -> bool:
        """Renew the lease, `since` seconds after the last time; tell whether it still holds."""
        begun = time.monotonic()
        try:
            kept = leases.renew(self.name, self.capacity, running)
        except Unavailable as error:
            log.warning("worker.lease_waits", reason=error.message)
            return since < LEASE_SECONDS - MARGIN_SECONDS and this_worker.may_claim
        self._renewed_at = begun
        if not kept:
            # Others took us for dead and took our jobs. What we take from now on is ours.
            _lose_jobs()
            leases.open(self.name, self.capacity)
        return True

    def _compare_with_rows(self) -> None:
        """Abort jobs whose rows ask for it, and give up those that are ours by their row alone."""
        try:
            if begun := publisher().newly_begun():
                store.mark_begun(begun)
            rows = leases.jobs_under(self.name)
            orphans = rows.keys() - this_worker.calls.keys()
            # A job is claimed a moment before it is known here: only one missing twice is lost.
            if lost := orphans & self._orphans:
                log.error("worker.jobs_orphaned", jobs=sorted(lost))
                leases.requeue_orphans(self.name, lost)
            self._orphans = orphans
        except Unavailable as error:
            log.warning("worker.rows_wait", reason=error.message)
            return
        for job_id in [job_id for job_id, cancelled in rows.items() if cancelled]:
            this_worker.abort(job_id, JobCancelled("The job was cancelled."))


def _lose_jobs() -> None:
    if this_worker.calls:
        log.error("worker.lease_lost", running=len(this_worker.calls))
    this_worker.abort_all(LeaseLost("The worker lost its lease."))
