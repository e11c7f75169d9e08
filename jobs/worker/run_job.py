"""How a job that runs here ends, whatever its kind: settled, failed, cancelled or handed back."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import gevent
import structlog
from rq import Retry

from billing import settlement
from billing.outcomes import JobOutcome, Settled, UpstreamAttribution
from jobs.lifecycle import bodies, concurrency, store
from jobs.lifecycle.store import Claim
from jobs.streaming import messages, sse
from jobs.streaming.messages import Ended, Events, Source
from jobs.worker import in_flight
from jobs.worker.in_flight import HandedBack, LeaseLost, Unheard, this_worker
from jobs.worker.publisher import Stream
from models.errors import InternalError, JobCancelled, LikeDoError, Unavailable
from models.job import Status
from net.call import Call

T = TypeVar("T")

log = structlog.get_logger()

#: Seconds between tries to store an answer while the database does not answer.
SETTLE_RETRY_SECONDS = (0.1, 0.2, 0.5, 1, 2)


@dataclass
class RunningJob:
    """A job while it runs."""

    claim: Claim
    call: Call
    #: Where it streams.
    stream: Stream | None = None
    #: Who was asked last.
    asked: UpstreamAttribution = field(init=False)
    #: Each time a provider was asked, by whichever worker.
    trail: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.asked = UpstreamAttribution(trail=self.trail)

    @property
    def id(self) -> str:
        return self.claim.job.id

    @property
    def events(self) -> int | None:
        """The number of the stream's last event; None where nothing was said.

        Of what was said something may have reached a client: then nobody else can run the job.
        """
        return (self.stream.number or None) if self.stream else None

    def body(self) -> bytes:
        """Return the request's body; raise `Unavailable` where it is lost."""
        found = this_worker.bodies.get(self.id) or bodies.body(self.id, self.claim.body_at)
        if found is None:
            raise Unavailable("The request was lost before it could be answered. Try again.")
        return found

    def used(self) -> JobOutcome | None:
        """Return what a cancelled job has to pay for; None where that is nothing."""
        return None

    def tail(self, settled: Settled) -> list[bytes] | None:
        """Return the last events of a stream that was paid for."""
        return None


def run_to_end(running: RunningJob, answer: Callable[[], JobOutcome]) -> Ended | Retry | None:
    """Run `answer` and settle what it returns, or end the job by what it raises.

    Returns what the job's waiters are to hear; RQ's `Retry` where the job was handed back and
    belongs in the queue again; None where it is no longer ours.
    """
    try:
        return _end(running, answer)
    except Exception:  # One of the outermost doors: a bug must not leave a job unfinished.
        log.exception("job.broke", job=running.id)
        return _fail(running, InternalError("Something went wrong on our side."))


def _end(running: RunningJob, answer: Callable[[], JobOutcome]) -> Ended | Retry | None:
    try:
        return _settle(running, answer())
    except (HandedBack, LeaseLost) as why:
        return _hand_back(running, why)
    except Unheard as why:
        return _fail(running, JobCancelled(why.message), Status.CANCELLED)
    except JobCancelled as error:
        return _cancel(running, error)
    except LikeDoError as error:
        return _fail(running, error)


def _hand_back(running: RunningJob, why: HandedBack | LeaseLost) -> Ended | Retry | None:
    log.warning("job.handed_back", job=running.id, reason=why.message)
    if running.events:
        return _fail(running, Unavailable(messages.BROKEN_OFF))
    handed_back = retry_until_stored(lambda: store.hand_back(running.claim.job, running.trail))
    return Retry(max=1) if handed_back else None


def _settle(running: RunningJob, answer: JobOutcome) -> Ended | None:
    settled = retry_until_stored(lambda: settlement.settle(running.claim.job, answer))
    if settled is None:
        log.warning("job.not_ours", job=running.id, attempt=running.claim.job.attempt)
        return None
    return _ended(running, Status.COMPLETED, settled, tail=running.tail(settled))


def _fail(running: RunningJob, error: LikeDoError, status: Status = Status.FAILED) -> Ended | None:
    log.info(
        "job.failed",
        job=running.id,
        code=error.code,
        reason=error.message,
        cause=repr(error.__cause__) if error.__cause__ else None,
    )
    settled = retry_until_stored(
        lambda: settlement.fail(running.claim.job, error, running.asked, status, running.events)
    )
    if settled is None:
        return None
    return _ended(running, status, settled, error)


def _cancel(running: RunningJob, error: JobCancelled) -> Ended | None:
    """End a cancelled job: free where no provider was asked, else charged for what it used."""
    used = running.used() if running.call.asked else None
    if used is None:
        return _fail(running, error, Status.CANCELLED)
    settled = retry_until_stored(
        lambda: settlement.settle_cancelled(running.claim.job, used, error)
    )
    if settled is None:
        return None
    return _ended(running, Status.CANCELLED, settled, error)


def _ended(
    running: RunningJob,
    status: Status,
    settled: Settled,
    error: LikeDoError | None = None,
    tail: list[bytes] | None = None,
) -> Ended:
    """Return how a job ended, with the last events of its stream where that had begun."""
    bodies.forget_body(running.id, running.claim.body_at, status)
    if settled.has_webhook:
        in_flight.webhook_due.set()
    if settled.has_waiting_jobs:
        _promote_waiting(running.claim.job.account_id)
    if error is not None and running.events:
        tail = [sse.error(error)]
    ends: Events | None = None
    whole: Events | None = None
    if running.stream and tail:
        ends, whole = running.stream.end(tail)
    return Ended(
        status,
        Source(running.asked.provider, running.asked.upstream_model, len(running.trail)),
        settled.charged,
        settled.available,
        error.as_record() if error else None,
        running.stream.number if running.stream and tail else None,
        body=settled.body if not running.stream else None,
        tail=ends,
        whole=whole,
    )


def _promote_waiting(account_id: int) -> None:
    try:
        concurrency.promote_waiting(account_id)
    except Unavailable as error:
        # Upkeep does it within seconds.
        log.warning("places.wait", account=account_id, reason=error.message)


def retry_until_stored(write: Callable[[], T]) -> T:
    """Do what must be stored, again and again while the database does not answer.

    The attempt in every guard makes doing it twice harmless, and doing it too late too.
    """
    tries = iter(SETTLE_RETRY_SECONDS)
    while True:
        try:
            return write()
        except Unavailable as error:
            log.warning("job.settle_waits", reason=error.message)
            gevent.sleep(next(tries, SETTLE_RETRY_SECONDS[-1]))
