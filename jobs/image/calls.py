"""The provider calls of an image job: which are needed, and how one is made or resumed."""

from collections.abc import Callable, Iterator

import orjson
import structlog

import providers
from billing import pricing
from billing.outcomes import UpstreamAttribution
from billing.pricing import EachPrice
from config.catalog.load import catalog
from config.settings import settings
from jobs.image import provider_calls
from jobs.image.normalize import normalize_image
from jobs.image.outcome import ImageCall, ImageJob
from jobs.kinds.image import BULK_IMAGE
from jobs.lifecycle import store
from jobs.worker.in_flight import HandedBack, LeaseLost, this_worker
from jobs.worker.run_job import retry_until_stored
from models import errors
from models.errors import InternalError, JobCancelled, LikeDoError, ProviderTimeout, Unavailable
from models.image import ImageRequest
from models.provider_call import CallStatus, ProviderCall
from net.call import Call, child_call
from providers import image
from providers.image import DrawRequest, DrawResult, Picture
from routing import breakers, image_candidates
from routing.attempts import Attempt, Attempts
from routing.image_candidates import ImageCandidate
from storage import media

log = structlog.get_logger()


#: Provider calls of one job that run at the same time.
MAX_CONCURRENT = 4
#: A provider gets this long to acknowledge a cancellation.
CANCEL_SECONDS = 10.0

#: After these another worker continues the job, and the provider goes on with its images.
REQUEUED = (HandedBack, LeaseLost)
#: After these the provider is told to cancel its images.
UNWANTED_AFTER = (JobCancelled, ProviderTimeout)

LOST = (
    "The worker that had asked for this image is gone. It may have been made, so it was not asked "
    "for again, and it is not charged. Try again."
)
OUR_SIDE = "Something went wrong on our side."


# ---- Which calls ---------------------------------------------------------------------------------


def pending(job: ImageJob, earlier: list[ProviderCall]) -> Iterator[Callable[[], None]]:
    """Yield a function for each call to perform: those to resume, then those to make.

    `earlier`: the calls that earlier workers made.
    """
    for row in earlier:
        image_call = ImageCall(row.place, row.images)
        job.provider_calls.append(image_call)
        candidate = _candidate_of(job, row)
        _attribute(job, image_call, row, candidate)
        if perform := _rest_of(job, image_call, row, candidate):
            yield perform
    covered = {index for image_call in job.provider_calls for index in image_call.indexes}
    for image_call in _new_calls(job, covered):
        job.provider_calls.append(image_call)
        if error := job.call.reason or job.obstacle:
            image_call.errors = dict.fromkeys(image_call.indexes, error)
        else:
            yield _new(job, image_call)


def _attribute(
    job: ImageJob, image_call: ImageCall, row: ProviderCall, candidate: ImageCandidate | None
) -> None:
    """Record which provider an earlier worker called, and what its images cost."""
    price = EachPrice(candidate.credits) if candidate else pricing.from_text(job.claimed.price)
    assert isinstance(price, EachPrice)
    job.prices |= dict.fromkeys(image_call.indexes, price.each)
    if job.upstream.provider is None or job.stored.keys() & set(image_call.indexes):
        job.upstream = UpstreamAttribution(row.provider, row.upstream_model, price, job.trail)


def _new_calls(job: ImageJob, covered: set[int]) -> Iterator[ImageCall]:
    """Yield calls for the images whose indexes are not `covered`."""
    request = job.request
    if request is None:
        return
    # Any of the candidates may be the one to make them.
    limits = [candidate.route.upstream.images_per_call for candidate in job.candidates]
    max_count = min(limits, default=request.count)
    first = 0
    while first < request.total:
        # Images of one prompt, up to the next one that is covered.
        end = min(first + max_count, (first // request.count + 1) * request.count)
        count = next((n for n, at in enumerate(range(first, end)) if at in covered), end - first)
        if count:
            yield ImageCall(first, count)
        first += count or 1


def _rest_of(
    job: ImageJob, image_call: ImageCall, row: ProviderCall, candidate: ImageCandidate | None
) -> Callable[[], None] | None:
    """Return what is left to do of a call that an earlier worker made; None if nothing is."""
    if row.status == CallStatus.DONE:
        records = orjson.loads(row.errors or "{}")
        image_call.errors = {
            int(index): errors.from_record(record) for index, record in records.items()
        }
        image_call.usage = orjson.loads(row.usage) if row.usage else None
        return None
    secret = _secret_of(row)
    if row.status == CallStatus.ASKED or secret is None:
        return lambda: _fail_as_lost(job, image_call)
    image_call.provider, image_call.secret = providers.images[row.provider], secret
    image_call.started = str(row.started)
    if candidate is None:
        return lambda: _fail_as_lost(job, image_call)
    return _resumed(job, image_call, candidate)


def _candidate_of(job: ImageJob, row: ProviderCall) -> ImageCandidate | None:
    """Return the candidate that a call was made for, even if it gets no new calls now."""
    for candidate in (*job.candidates, *_candidates_for(row.model, job.request)):
        target = (candidate.model.id, candidate.provider.name, candidate.upstream_model)
        if target == (row.model, row.provider, row.upstream_model):
            return candidate
    return None


def _candidates_for(model_id: str, request: ImageRequest | None) -> list[ImageCandidate]:
    model = catalog.images.get(model_id)
    if model is None or request is None:
        return []
    is_fallback = catalog.images.get(request.model) is not model
    if is_fallback:
        request = request.for_fallback(model_id)
    return image_candidates.of_model(request, model)


def _secret_of(row: ProviderCall) -> str | None:
    """Return the key that a call was made with; None if it is no longer configured."""
    secrets = settings.keys_of(row.provider) or [""]
    return next(
        (key for key in secrets if breakers.of(row.provider, key).key_id == row.key_id), None
    )


def _fail_as_lost(job: ImageJob, image_call: ImageCall) -> None:
    log.warning("image.lost", job=job.id, index=image_call.first, count=image_call.count)
    if image_call.started is not None:
        _cancel_upstream(image_call)
    _fail(job, image_call, Unavailable(LOST))


# ---- One call ------------------------------------------------------------------------------------


def _new(job: ImageJob, image_call: ImageCall) -> Callable[[], None]:
    """Return a function that asks the candidates in turn."""

    def draw(call: Call) -> DrawResult:
        attempts = Attempts(
            job.candidates,
            call,
            job.trail,
            on_retry=lambda: _record_trail(job),
            costs_each_time=True,
        )
        return attempts.answer(lambda attempt: _call_provider(job, image_call, attempt, call))

    return lambda: None if _is_postponed(job) else _perform(job, image_call, draw)


def _is_postponed(job: ImageJob) -> bool:
    """Tell whether new calls are left to another worker, and record that."""
    # A bulk job would take longer than a stopping worker has, and no client waits for it.
    job.has_postponed |= this_worker.is_stopping and job.claim.kind == BULK_IMAGE.name
    return job.has_postponed


def _resumed(job: ImageJob, image_call: ImageCall, candidate: ImageCandidate) -> Callable[[], None]:
    """Return a function that waits for images that a provider is already making."""

    def draw(call: Call) -> DrawResult:
        draw_request = _draw_request(job, image_call, candidate)
        assert image_call.provider is not None and image_call.started is not None
        return image_call.provider.resume(image_call.started, draw_request, image_call.secret, call)

    return lambda: _perform(job, image_call, draw)


def _perform(job: ImageJob, image_call: ImageCall, draw: Callable[[Call], DrawResult]) -> None:
    """Have the images of one call drawn and store them; failures go to the call's errors."""
    try:
        _draw_and_store(job, image_call, draw)
    except REQUEUED:
        return
    except LikeDoError as error:
        if image_call.started is not None and isinstance(error, UNWANTED_AFTER):
            _cancel_upstream(image_call)
        _fail(job, image_call, error)
    except Exception:  # An outermost handler: one odd answer must not fail the other calls.
        log.exception("image.call_failed", job=job.id, index=image_call.first)
        _fail(job, image_call, InternalError(OUR_SIDE))


def _draw_and_store(
    job: ImageJob, image_call: ImageCall, draw: Callable[[Call], DrawResult]
) -> None:
    # A call of its own, with its own timeout; it ends with the job's call.
    with child_call(job.call, settings.job_timeout_seconds) as call:
        result = draw(call)
    image_call.usage = result.usage
    for index, picture in zip(image_call.indexes, result.pictures, strict=True):
        if index not in job.stored:
            _store(job, image_call, index, picture)
    _record_done(job, image_call)


def _call_provider(
    job: ImageJob, image_call: ImageCall, attempt: Attempt[ImageCandidate], call: Call
) -> DrawResult:
    """Call one provider, once; it may be called again only if it certainly began nothing."""
    if _is_postponed(job):
        raise HandedBack("The worker is stopping.")
    candidate, key, first = attempt.candidate, attempt.key, image_call.first
    is_ours = provider_calls.record_asked(
        job.claimed, first, image_call.count, candidate, key.breaker.key_id
    )
    if not is_ours:
        lost = LeaseLost("The job is another worker's by now.")
        job.call.abort(lost)
        raise lost
    job.call.was_provider_called = True
    job.upstream = UpstreamAttribution(
        candidate.provider.name, candidate.upstream_model, EachPrice(candidate.credits), job.trail
    )
    job.prices |= dict.fromkeys(image_call.indexes, candidate.credits)
    provider = candidate.provider
    image_call.provider, image_call.secret, image_call.started = provider, key.secret, None

    def on_started(started: str) -> None:
        image_call.started = started
        retry_until_stored(lambda: provider_calls.record_started(job.id, first, started))

    draw_request = _draw_request(job, image_call, candidate)
    try:
        return provider.draw(draw_request, key.secret, call, on_started)
    except LikeDoError as error:
        if error.nothing_ran and image_call.started is None:
            retry_until_stored(lambda: provider_calls.record_unasked(job.claimed, first))
        raise


def _draw_request(job: ImageJob, image_call: ImageCall, candidate: ImageCandidate) -> DrawRequest:
    request = candidate.request.of_prompt(image_call.first // candidate.request.count)
    return image.draw_request(request, candidate.route, image_call.count, job.folder)


def _record_trail(job: ImageJob) -> None:
    """Show the attempts that failed to those who follow the job, before it has ended."""
    try:
        store.save_trail(job.claimed, job.trail)
    except Unavailable as error:
        log.warning("job.trail_delayed", job=job.id, reason=error.message)


def _store(
    job: ImageJob, image_call: ImageCall, index: int, picture: Picture | LikeDoError
) -> None:
    """Normalize and store one image; record the error if that fails."""
    assert job.request is not None
    if isinstance(picture, LikeDoError):
        image_call.errors[index] = picture
        return
    target = picture.path.with_name(f"{picture.path.name}.finished")
    request = job.request
    try:
        normalized = normalize_image(
            picture.path, target, request.size, request.output_format, request.output_compression
        )
        picture.path.unlink()
        job.stored[index] = media.keep(
            job.id, job.claimed.account_id, index, target, normalized, picture.revised_prompt
        )
    except LikeDoError as error:
        log.warning("image.not_kept", job=job.id, index=index, reason=error.message)
        image_call.errors[index] = error
    except Exception:  # An outermost handler: the other images are good.
        log.exception("image.store_failed", job=job.id, index=index)
        image_call.errors[index] = InternalError(OUR_SIDE)
    finally:
        picture.path.unlink(missing_ok=True)
        target.unlink(missing_ok=True)


def _fail(job: ImageJob, image_call: ImageCall, error: LikeDoError) -> None:
    missing = [index for index in image_call.indexes if index not in job.stored]
    image_call.errors |= dict.fromkeys(missing, error)
    _record_done(job, image_call)


def _record_done(job: ImageJob, image_call: ImageCall) -> None:
    retry_until_stored(
        lambda: provider_calls.record_done(
            job.id, image_call.first, image_call.errors, image_call.usage
        )
    )


def _cancel_upstream(image_call: ImageCall) -> None:
    """Cancel at the provider what it may still be working on."""
    assert image_call.provider is not None and image_call.started is not None
    try:
        image_call.provider.cancel(image_call.started, image_call.secret, Call(CANCEL_SECONDS))
    except LikeDoError as error:
        log.warning("image.not_cancelled", provider=image_call.provider.name, reason=error.message)
