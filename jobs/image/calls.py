"""The provider calls of an image job: which are needed, and how one is made."""

from collections.abc import Callable, Iterator
from typing import Any

import orjson
import structlog
from sqlalchemy import Row

import providers
from billing import pricing
from billing.outcomes import UpstreamAttribution
from billing.pricing import EachPrice
from config.catalog.load import catalog
from config.settings import settings
from jobs.image import provider_calls
from jobs.image.normalize import normalize_image
from jobs.image.outcome import ImageCall, RunningImages
from jobs.lifecycle import store
from jobs.worker.in_flight import HandedBack, LeaseLost, this_worker
from jobs.worker.run_job import retry_until_stored
from models import errors
from models.errors import InternalError, JobCancelled, LikeDoError, ProviderTimeout, Unavailable
from models.image import ImageRequest
from models.provider_call import CallStatus
from net.call import Call, child_call
from providers import image
from providers.image import Drawn, Picture, Wanted
from routing import breakers, image_candidates
from routing.attempts import Attempt, Attempts
from routing.image_candidates import ImageCandidate
from storage import media

log = structlog.get_logger()


#: Shots of one job that are on their way at a time.
AT_ONCE = 4
#: A provider gets this long to take note that nobody wants its images any more.
CANCEL_SECONDS = 10.0

#: Whoever ends a job so gives it to another worker: what was begun goes on.
HANDED_ON = (HandedBack, LeaseLost)
#: After these nobody waits any more for what a provider works on.
NOBODY_WAITS = (JobCancelled, ProviderTimeout)

LOST = (
    "The worker that had asked for this image is gone. It may have been made, so it was not asked "
    "for again, and it is not charged. Try again."
)
OUR_SIDE = "Something went wrong on our side."


def takes(running: RunningImages, earlier: list[Row[Any]]) -> Iterator[Callable[[], None]]:
    """Yield what is to be done: shots of an earlier worker taken up, and the others asked for."""
    for row in earlier:
        shot = ImageCall(row.place, row.images)
        running.shots.append(shot)
        way = _candidate_of(running, row)
        _remember(running, shot, row, way)
        if take := _take_up(running, shot, row, way):
            yield take
    covered = {place for shot in running.shots for place in shot.places}
    for shot in _new_calls(running, covered):
        running.shots.append(shot)
        if reason := running.call.reason or running.obstacle:
            shot.errors = dict.fromkeys(shot.places, reason)
        else:
            yield _asking(running, shot)


def _remember(
    running: RunningImages, shot: ImageCall, row: Row[Any], way: ImageCandidate | None
) -> None:
    """Note who was asked for a shot by an earlier worker, and what its images cost."""
    price = EachPrice(way.credits) if way else pricing.from_text(running.claim.job.price)
    assert isinstance(price, EachPrice)
    running.prices |= dict.fromkeys(shot.places, price.each)
    if running.asked.provider is None or running.kept.keys() & set(shot.places):
        running.asked = UpstreamAttribution(row.provider, row.upstream_model, price, running.trail)


def _new_calls(running: RunningImages, covered: set[int]) -> Iterator[ImageCall]:
    request = running.request
    if request is None:
        return
    # Any of the ways may have to make it.
    calls = [way.route.upstream.images_per_call for way in running.ways]
    most = min(calls, default=request.count)
    place = 0
    while place < request.total:
        # Those of one prompt, up to the next that an earlier worker had asked for.
        end = min(place + most, (place // request.count + 1) * request.count)
        count = next((n for n, at in enumerate(range(place, end)) if at in covered), end - place)
        if count:
            yield ImageCall(place, count)
        place += count or 1


def _take_up(
    running: RunningImages, shot: ImageCall, row: Row[Any], way: ImageCandidate | None
) -> Callable[[], None] | None:
    """Return what is left to do of a shot that an earlier worker had begun; None: nothing is."""
    if row.status == CallStatus.DONE:
        records = orjson.loads(row.errors or "{}")
        shot.errors = {int(at): errors.from_record(record) for at, record in records.items()}
        shot.usage = orjson.loads(row.usage) if row.usage else None
        return None
    secret = _secret_of(row)
    if row.status == CallStatus.ASKED or secret is None:
        return lambda: _lose(running, shot)
    shot.provider, shot.secret = providers.images[row.provider], secret
    shot.started = str(row.started)
    return _resuming(running, shot, way) if way else lambda: _lose(running, shot)


def _candidate_of(running: RunningImages, row: Row[Any]) -> ImageCandidate | None:
    """Return the way that a shot went, though it may be closed to others by now."""
    wanted = (row.model, row.provider, row.upstream_model)
    ways = [*running.ways, *_candidates_for(row.model, running.request)]
    return next(
        (w for w in ways if (w.model.id, w.provider.name, w.upstream_model) == wanted), None
    )


def _candidates_for(model_id: str, request: ImageRequest | None) -> list[ImageCandidate]:
    model = catalog.images.get(model_id)
    if model is None or request is None:
        return []
    is_fallback = catalog.images.get(request.model) is not model
    asked = request.for_fallback(model_id) if is_fallback else request
    return image_candidates.of_model(asked, model)


def _secret_of(row: Row[Any]) -> str | None:
    """Return the key that a shot was asked for with; None where it is no longer ours."""
    known = settings.keys_of(row.provider) or [""]
    return next((key for key in known if breakers.of(row.provider, key).key_id == row.key_id), None)


def _lose(running: RunningImages, shot: ImageCall) -> None:
    log.warning("image.lost", job=running.id, place=shot.place, count=shot.count)
    if shot.started is not None:
        _cancel_upstream(shot)
    _fail(running, shot, Unavailable(LOST))


def _asking(running: RunningImages, shot: ImageCall) -> Callable[[], None]:
    def ask(call: Call) -> Drawn:
        attempts = Attempts(
            running.ways, call, running.trail, on_retry=lambda: _tell(running), costs_each_time=True
        )
        return attempts.answer(lambda attempt: _ask_one(running, shot, attempt, call))

    return lambda: None if _leaves(running) else _take(running, shot, ask)


def _leaves(running: RunningImages) -> bool:
    """Tell whether what is not asked for yet is left for another worker, and note that it is."""
    # It would take longer than a stopping worker has; nobody waits for a batch.
    running.is_left |= this_worker.is_stopping and running.claim.kind == "batch"
    return running.is_left


def _resuming(running: RunningImages, shot: ImageCall, way: ImageCandidate) -> Callable[[], None]:
    def resume(call: Call) -> Drawn:
        wanted = _wanted(running, shot, way)
        assert shot.provider is not None and shot.started is not None
        return shot.provider.resume(shot.started, wanted, shot.secret, call)

    return lambda: _take(running, shot, resume)


def _take(running: RunningImages, shot: ImageCall, have_drawn: Callable[[Call], Drawn]) -> None:
    """Have the images of one shot made and store them; what fails is in its errors."""
    try:
        _take_in(running, shot, have_drawn)
    except HANDED_ON:
        return
    except LikeDoError as error:
        if shot.started is not None and isinstance(error, NOBODY_WAITS):
            _cancel_upstream(shot)
        _fail(running, shot, error)
    except Exception:  # An outermost door: one odd answer must not take the others with it.
        log.exception("image.broke", job=running.id, place=shot.place)
        _fail(running, shot, InternalError(OUR_SIDE))


def _take_in(running: RunningImages, shot: ImageCall, have_drawn: Callable[[Call], Drawn]) -> None:
    # A call of its own, for the time that each way has; it ends with the job's.
    with child_call(running.call, settings.job_timeout_seconds) as call:
        drawn = have_drawn(call)
    shot.usage = drawn.usage
    for place, picture in zip(shot.places, drawn.pictures, strict=True):
        if place not in running.kept:
            _keep(running, shot, place, picture)
    retry_until_stored(lambda: provider_calls.end(running.id, shot.place, shot.errors, shot.usage))


def _ask_one(
    running: RunningImages, shot: ImageCall, attempt: Attempt[ImageCandidate], call: Call
) -> Drawn:
    """Ask one provider, once, and never again without knowing that it did not hear."""
    if _leaves(running):
        raise HandedBack("The worker is stopping.")
    way, key = attempt.candidate, attempt.key
    if not provider_calls.ask(running.claim.job, shot.place, shot.count, way, key.breaker.key_id):
        lost = LeaseLost("The job is another worker's by now.")
        running.call.abort(lost)
        raise lost
    running.call.asked = True
    running.asked = _asked(running, way)
    running.prices |= dict.fromkeys(shot.places, way.credits)
    shot.provider, shot.secret, shot.started = way.provider, key.secret, None

    def start(started: str) -> None:
        shot.started = started
        retry_until_stored(lambda: provider_calls.start(running.id, shot.place, started))

    wanted = _wanted(running, shot, way)
    try:
        return shot.provider.draw(wanted, key.secret, call, start)
    except LikeDoError as error:
        if error.nothing_ran and shot.started is None:
            retry_until_stored(lambda: provider_calls.take_back(running.claim.job, shot.place))
        raise


def _wanted(running: RunningImages, shot: ImageCall, way: ImageCandidate) -> Wanted:
    request = way.request.of_prompt(shot.place // way.request.count)
    return image.wanted(request, way.route, shot.count, running.folder)


def _asked(running: RunningImages, way: ImageCandidate) -> UpstreamAttribution:
    return UpstreamAttribution(
        way.provider.name, way.upstream_model, EachPrice(way.credits), running.trail
    )


def _tell(running: RunningImages) -> None:
    """Let those who follow the job see what failed, before it has ended."""
    try:
        store.note_trail(running.claim.job, running.trail)
    except Unavailable as error:
        log.warning("job.trail_waits", job=running.id, reason=error.message)


def _keep(
    running: RunningImages, shot: ImageCall, place: int, picture: Picture | LikeDoError
) -> None:
    """Look into one image and store it; one that is none, or cannot be stored, is an error."""
    assert running.request is not None
    if isinstance(picture, LikeDoError):
        shot.errors[place] = picture
        return
    target = picture.path.with_name(f"{picture.path.name}.finished")
    request = running.request
    try:
        finished = normalize_image(
            picture.path, target, request.size, request.output_format, request.output_compression
        )
        picture.path.unlink()
        running.kept[place] = media.keep(
            running.id,
            running.claim.job.account_id,
            place,
            target,
            finished,
            picture.revised_prompt,
        )
    except LikeDoError as error:
        log.warning("image.not_kept", job=running.id, place=place, reason=error.message)
        shot.errors[place] = error
    except Exception:  # An outermost door: the other images are good.
        log.exception("image.broke", job=running.id, place=place)
        shot.errors[place] = InternalError(OUR_SIDE)
    finally:
        picture.path.unlink(missing_ok=True)
        target.unlink(missing_ok=True)


def _fail(running: RunningImages, shot: ImageCall, error: LikeDoError) -> None:
    shot.errors |= {place: error for place in shot.places if place not in running.kept}
    retry_until_stored(lambda: provider_calls.end(running.id, shot.place, shot.errors, shot.usage))


def _cancel_upstream(shot: ImageCall) -> None:
    """Tell the provider that nobody waits any more for what it may still be working on."""
    assert shot.provider is not None and shot.started is not None
    try:
        shot.provider.cancel(shot.started, shot.secret, Call(CANCEL_SECONDS))
    except LikeDoError as error:
        log.warning("image.not_cancelled", provider=shot.provider.name, reason=error.message)
