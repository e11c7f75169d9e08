"""Run one image job: have its images made, look into each, store them, and settle.

A provider is asked in shots: as many images at once as it makes, or several of them side by side.
Each shot has a row, so that whoever takes the job up after a worker's death waits for what a
provider works on, delivers what is stored, and asks nobody again.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import gevent
import orjson
import structlog
from gevent.pool import Pool
from rq import Retry

import storage
from billing.outcomes import ImagesOutcome
from jobs.image import calls, outcome, provider_calls
from jobs.image.outcome import RunningImages
from jobs.kinds import KINDS
from jobs.lifecycle import store
from jobs.streaming.messages import Ended
from jobs.worker import scratch
from jobs.worker.in_flight import HandedBack, this_worker
from jobs.worker.run_job import retry_until_stored, run_to_end
from models.errors import JobCancelled, LikeDoError, Unavailable
from models.image import ImageRequest
from routing import image_candidates
from storage import media

log = structlog.get_logger()


def run(job_id: str) -> Ended | Retry | None:
    """Run a queued image job to its end, and return what its waiters are to hear.

    Returns RQ's `Retry` where the job was handed back and belongs in the queue again; None where
    it was not there to be claimed, or is no longer ours.
    """
    claim = store.claim(job_id, this_worker.lease) if this_worker.may_claim else None
    if claim is None:
        return None
    with (
        this_worker.calling(job_id, KINDS[claim.kind].timeout_seconds) as call,
        tempfile.TemporaryDirectory(dir=scratch.own()) as folder,
    ):
        running = RunningImages(claim, call, trail=claim.trail, folder=Path(folder))
        if claim.is_cancelled:
            # It was when no worker had it, and some of it may be stored: it is only to be ended.
            call.abort(JobCancelled("The job was cancelled."))
        return run_to_end(running, lambda: _make(running))


def _make(running: RunningImages) -> ImagesOutcome:
    # What was made is delivered and paid for, whatever becomes of the rest.
    earlier = retry_until_stored(lambda: provider_calls.of_job(running.id))
    running.kept = {
        kept.place: kept for kept in retry_until_stored(lambda: media.of_job(running.id))
    }
    running.call.asked = bool(earlier)
    if not earlier:
        running.call.check()
    _prepare(running, media.RETRY_SECONDS if earlier else ())
    if running.obstacle and not earlier:
        raise running.obstacle
    taking = Pool(calls.AT_ONCE)
    taken = [taking.spawn(take) for take in calls.takes(running, earlier)]
    gevent.joinall(taken)
    for each in taken:
        each.get()
    _raise_what_ended_it(running)
    return outcome.images(running)


def _prepare(running: RunningImages, pauses: Sequence[float]) -> None:
    """Find out what is asked and how to have it made, or what stands in the way of that."""
    for pause in (*pauses, None):
        try:
            running.request = ImageRequest.checked(orjson.loads(running.body()))
            running.ways = image_candidates.find(running.request)
            # What could not be kept is not worth asking for.
            storage.ready()
            return
        except LikeDoError as error:
            running.obstacle = error
        is_passing = isinstance(running.obstacle, Unavailable)
        if pause is None or not is_passing or running.call.is_over:
            return
        log.warning("image.waits", job=running.id, reason=running.obstacle.message)
        gevent.sleep(pause)
        running.obstacle = None


def _raise_what_ended_it(running: RunningImages) -> None:
    """Raise why the job was ended from outside; and where no image came, why not."""
    reason = running.call.reason
    if isinstance(reason, (*calls.HANDED_ON, JobCancelled)):
        raise reason
    if running.is_left:
        raise HandedBack("The worker is stopping.")
    if not running.kept:
        raise next(iter(outcome.errors(running).values()))
