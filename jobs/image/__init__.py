"""Run one image job: call providers, normalize and store each image, and settle.

One call makes several images, or several calls run concurrently. Each call has a row: if a worker
dies, the next one resumes its calls, delivers the stored images, and requests none twice.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import gevent
import structlog
from gevent.pool import Pool
from rq import Retry

import storage
from billing.outcomes import ImagesOutcome
from jobs.image import calls, outcome, provider_calls
from jobs.image.outcome import ImageJob
from jobs.kinds import KINDS
from jobs.lifecycle import bodies
from jobs.streaming.messages import Ended
from jobs.worker import run_job, scratch
from jobs.worker.in_flight import HandedBack, this_worker
from jobs.worker.run_job import retry_until_stored
from models.errors import JobCancelled, LikeDoError, Unavailable
from models.image import ImageRequest
from routing import image_candidates
from storage import media

log = structlog.get_logger()


def run(job_id: str) -> Ended | Retry | None:
    """Run a queued image job to its end, and return how it ended, for its subscribers.

    Returns RQ's `Retry` if the job was handed back and belongs in the queue again; None if it
    could not be claimed, or is no longer ours.
    """
    claim = run_job.claim(job_id)
    if claim is None:
        return None
    with (
        this_worker.calling(claim.job, KINDS[claim.kind].timeout_seconds) as call,
        tempfile.TemporaryDirectory(dir=scratch.folder()) as folder,
    ):
        job = ImageJob(claim, call, trail=claim.trail, folder=Path(folder))
        if claim.is_cancelled:
            # It was cancelled while no worker had it. Some images may be stored: only end it.
            call.abort(JobCancelled("The job was cancelled."))
        return run_job.run_to_end(job, lambda: _make_images(job))


def _make_images(job: ImageJob) -> ImagesOutcome:
    # Images that were made are delivered and charged, even if the others fail.
    earlier = retry_until_stored(lambda: provider_calls.of_job(job.id))
    stored = retry_until_stored(lambda: media.of_job(job.id))
    job.stored = {image.place: image for image in stored}
    job.call.was_provider_called = bool(earlier)
    if not earlier:
        job.call.check()
    _prepare(job, media.RETRY_SECONDS if earlier else ())
    if job.obstacle and not earlier:
        raise job.obstacle
    pool = Pool(calls.MAX_CONCURRENT)
    greenlets = [pool.spawn(perform) for perform in calls.pending(job, earlier)]
    gevent.joinall(greenlets)
    for greenlet in greenlets:
        greenlet.get()
    _raise_what_ended(job)
    return outcome.images(job)


def _prepare(job: ImageJob, pauses: Sequence[float]) -> None:
    """Read the request and find its candidates; if that fails, record the error as the obstacle."""
    for pause in (*pauses, None):
        try:
            job.request = ImageRequest.from_validated(bodies.decoded(job.body()))
            job.candidates = image_candidates.find(job.request)
            # No image is requested if it could not be stored.
            storage.ready()
            return
        except LikeDoError as error:
            job.obstacle = error
        is_temporary = isinstance(job.obstacle, Unavailable)
        if pause is None or not is_temporary or job.call.is_over:
            return
        log.warning("image.delayed", job=job.id, reason=job.obstacle.message)
        gevent.sleep(pause)
        job.obstacle = None


def _raise_what_ended(job: ImageJob) -> None:
    """Raise the error if the job was ended from outside, or if no image was made."""
    reason = job.call.reason
    if isinstance(reason, (*calls.REQUEUED, JobCancelled)):
        raise reason
    if job.has_postponed:
        raise HandedBack("The worker is stopping.")
    if not job.stored:
        raise next(iter(outcome.errors(job).values()))
