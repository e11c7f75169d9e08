"""The worker's lease: renewed, lost, and compared with the job rows that name it."""

import time

import structlog

from jobs.lifecycle import store
from jobs.maintenance import leases
from jobs.worker.in_flight import LeaseLost, this_worker
from jobs.worker.publisher import publisher
from models.errors import JobCancelled, Unavailable
from models.lease import LEASE_SECONDS, RENEWAL_SECONDS

log = structlog.get_logger()

#: Jobs are given up this long before the lease expires, since another worker may then take them.
MARGIN_SECONDS = 2


class LeaseKeeper:
    """Renews the lease called `name`, and aborts what may no longer run under it."""

    def __init__(self, name: str, capacity: int) -> None:
        self.name = name
        self.capacity = capacity
        self._renewed_at = 0.0
        #: Jobs that their rows assign to this worker, but that were not in flight here when the
        #: rows were last read.
        self._orphans: set[str] = set()

    def keep(self, running: int) -> None:
        """Renew the lease if that is due; `running` is the number of jobs the worker has."""
        age = time.monotonic() - self._renewed_at
        if this_worker.may_claim and age < RENEWAL_SECONDS:
            return
        holds = self._renew(running, age)
        if not holds and this_worker.may_claim:
            _abort_jobs()
        this_worker.may_claim = holds
        if holds:
            self._compare_with_rows()

    def close(self) -> None:
        """End the lease: its jobs are free for others. Raises `Unavailable`."""
        leases.close(self.name)

    def _renew(self, running: int, age: float) -> bool:
        """Renew the lease, `age` seconds after the last time; tell whether it still holds."""
        started_at = time.monotonic()
        try:
            renewed = leases.renew(self.name, self.capacity, running)
        except Unavailable as error:
            log.warning("worker.lease_delayed", reason=error.message)
            return age < LEASE_SECONDS - MARGIN_SECONDS and this_worker.may_claim
        self._renewed_at = started_at
        if not renewed:
            # Other processes took us for dead and took our jobs. What is claimed from now on is
            # ours again.
            _abort_jobs()
            leases.open(self.name, self.capacity)
        return True

    def _compare_with_rows(self) -> None:
        """Abort jobs whose rows ask for it, and give up those that only their rows assign to us."""
        try:
            if begun := publisher().newly_begun():
                store.mark_begun(begun)
            cancel_requested = leases.jobs_under(self.name)
            orphans = cancel_requested.keys() - this_worker.calls.keys()
            # A job is claimed a moment before it is in flight here: only one that is missing twice
            # is lost.
            if lost := orphans & self._orphans:
                log.error("worker.jobs_orphaned", jobs=sorted(lost))
                leases.requeue_orphans(self.name, lost)
            self._orphans = orphans
        except Unavailable as error:
            log.warning("worker.rows_delayed", reason=error.message)
            return
        for job_id, is_requested in cancel_requested.items():
            if is_requested:
                this_worker.abort(job_id, JobCancelled("The job was cancelled."))


def _abort_jobs() -> None:
    if this_worker.calls:
        log.error("worker.lease_lost", running=len(this_worker.calls))
    this_worker.abort_all(LeaseLost("The worker lost its lease."))
