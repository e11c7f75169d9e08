"""Run any kind of job to its end: claim it, then settle, fail, cancel or hand it back."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import gevent
import structlog
from rq import Retry

from billing import settlement
from billing.outcomes import ClaimedJob, JobOutcome, Settled, UpstreamAttribution
from jobs.lifecycle import bodies, concurrency, store
from jobs.lifecycle.store import Claim
from jobs.streaming import messages, sse
from jobs.streaming.messages import Ended, Events, Source
from jobs.worker import in_flight
from jobs.worker.in_flight import ClientGone, HandedBack, LeaseLost, this_worker
from jobs.worker.publisher import Stream
from models.errors import InternalError, JobCancelled, LikeDoError, Unavailable
from models.job import Status
from net.call import Call

T = TypeVar("T")

log = structlog.get_logger()

#: Seconds between tries to store an outcome while the database does not answer.
SETTLE_RETRY_SECONDS = (0.1, 0.2, 0.5, 1, 2)


def claim(job_id: str) -> Claim | None:
    """Claim a queued job for this worker; None if it, or the worker, is not free for that."""
    return store.claim(job_id, this_worker.lease) if this_worker.may_claim else None


@dataclass
class RunningJob:
    """A job while it runs; a subclass for each kind adds what running it needs."""

    claim: Claim
    call: Call
    #: Set if it streams.
    stream: Stream | None = None
    #: The provider that was called last.
    upstream: UpstreamAttribution = field(init=False)
    #: Every attempt, including those of earlier workers.
    trail: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.upstream = UpstreamAttribution(trail=self.trail)

    @property
    def claimed(self) -> ClaimedJob:
        return self.claim.job

    @property
    def id(self) -> str:
        return self.claimed.id

    @property
    def last_event(self) -> int | None:
        """The number of the stream's last event; None if it has none.

        Once there is one, it may have reached a client: then no other worker can run the job.
        """
        return (self.stream.last_number or None) if self.stream else None

    def body(self) -> bytes:
        """Return the request's body; raise `Unavailable` if it is lost."""
        content = this_worker.bodies.get(self.id) or bodies.load(self.id, self.claim.body_at)
        if content is None:
            raise Unavailable("The request was lost before it could be answered. Try again.")
        return content

    def partial_outcome(self) -> JobOutcome | None:
        """Return the outcome that a cancelled job has to pay for; None if there is none."""
        return None

    def tail(self, settled: Settled) -> list[bytes] | None:
        """Return the last events of a stream that was paid for."""
        return None


def run_to_end(job: RunningJob, produce: Callable[[], JobOutcome]) -> Ended | Retry | None:
    """Settle the outcome that `produce` returns, or end the job with the error it raises.

    Returns how the job ended, for its subscribers; RQ's `Retry` if the job was handed back and
    belongs in the queue again; None if it is no longer ours.
    """
    try:
        return _end(job, produce)
    except Exception:  # One of the outermost handlers: a bug must not leave a job unfinished.
        log.exception("job.run_failed", job=job.id)
        return _fail(job, InternalError("Something went wrong on our side."))


def _end(job: RunningJob, produce: Callable[[], JobOutcome]) -> Ended | Retry | None:
    try:
        return _settle(job, produce())
    except (HandedBack, LeaseLost) as error:
        return _hand_back(job, error)
    except ClientGone as error:
        return _fail(job, JobCancelled(error.message), Status.CANCELLED)
    except JobCancelled as error:
        return _cancel(job, error)
    except LikeDoError as error:
        return _fail(job, error)


def _hand_back(job: RunningJob, error: HandedBack | LeaseLost) -> Ended | Retry | None:
    log.warning("job.handed_back", job=job.id, reason=error.message)
    if job.last_event:
        return _fail(job, Unavailable(messages.STREAM_BROKEN))
    is_queued = retry_until_stored(lambda: store.hand_back(job.claimed, job.trail))
    return Retry(max=1) if is_queued else None


def _settle(job: RunningJob, outcome: JobOutcome) -> Ended | None:
    settled = retry_until_stored(lambda: settlement.settle(job.claimed, outcome))
    if settled is None:
        log.warning("job.ownership_lost", job=job.id, attempt=job.claimed.attempt)
        return None
    return _ended(job, Status.COMPLETED, settled, tail=job.tail(settled))


def _fail(job: RunningJob, error: LikeDoError, status: Status = Status.FAILED) -> Ended | None:
    log.info(
        "job.failed",
        job=job.id,
        code=error.code,
        reason=error.message,
        cause=repr(error.__cause__) if error.__cause__ else None,
    )
    settled = retry_until_stored(
        lambda: settlement.fail(job.claimed, error, job.upstream, status, job.last_event)
    )
    if settled is None:
        return None
    return _ended(job, status, settled, error)


def _cancel(job: RunningJob, error: JobCancelled) -> Ended | None:
    """End a cancelled job: free if no provider was called, else charged for what it used."""
    outcome = job.partial_outcome() if job.call.was_provider_called else None
    if outcome is None:
        return _fail(job, error, Status.CANCELLED)
    settled = retry_until_stored(lambda: settlement.settle_cancelled(job.claimed, outcome, error))
    if settled is None:
        return None
    return _ended(job, Status.CANCELLED, settled, error)


def _ended(
    job: RunningJob,
    status: Status,
    settled: Settled,
    error: LikeDoError | None = None,
    tail: list[bytes] | None = None,
) -> Ended:
    """Return how a job ended, with the last events of its stream if that had begun."""
    bodies.forget(job.id, job.claim.body_at, status)
    if settled.has_webhook:
        in_flight.webhook_due.set()
    if settled.has_waiting_jobs:
        _promote_waiting(job.claimed.account_id)
    if error is not None and job.last_event:
        tail = [sse.error(error)]
    last_events: Events | None = None
    all_events: Events | None = None
    if job.stream and tail:
        last_events, all_events = job.stream.end(tail)
    return Ended(
        status,
        Source(job.upstream.provider, job.upstream.upstream_model, len(job.trail)),
        settled.charged,
        settled.available,
        error.as_record() if error else None,
        job.stream.last_number if job.stream and tail else None,
        body=settled.body if not job.stream else None,
        tail=last_events,
        whole=all_events,
    )


def _promote_waiting(account_id: int) -> None:
    try:
        concurrency.promote_waiting(account_id)
    except Unavailable as error:
        # Maintenance does it within seconds.
        log.warning("concurrency.promotion_delayed", account=account_id, reason=error.message)


def retry_until_stored(write: Callable[[], T]) -> T:
    """Call `write`, again and again while the database does not answer; return its result.

    Every write is guarded by the attempt, so doing it twice, or too late, is harmless.
    """
    pauses = iter(SETTLE_RETRY_SECONDS)
    while True:
        try:
            return write()
        except Unavailable as error:
            log.warning("job.settle_delayed", reason=error.message)
            gevent.sleep(next(pauses, SETTLE_RETRY_SECONDS[-1]))
