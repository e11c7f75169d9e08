"""Run one image job: have its images made, look into each, store them, and settle.

A provider is asked in shots: as many images at once as it makes, or several of them side by side.
Each shot has a row, so that whoever takes the job up after a worker's death waits for what a
provider works on, delivers what is stored, and asks nobody again.
"""

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gevent
import orjson
import structlog
from gevent.pool import Pool
from rq import Retry
from sqlalchemy import Row

import providers
import storage
from billing import pricing
from billing.ledger import Asked, Images
from billing.pricing import EachPrice
from config.catalog import catalog
from config.settings import settings
from jobs import ending, folders, media, rows, shots
from jobs.ending import surely
from jobs.messages import Ended
from jobs.running import HandedBack, LeaseLost, work
from models import errors
from models.errors import LikeDoError
from models.image import ImageRequest
from models.media import Media
from models.shot import ShotStatus
from providers import http, image
from providers.http import Call
from providers.image import Drawn, ImageProvider, Picture, Wanted
from routing import breakers, image_routes
from routing.attempts import Attempt, Attempts
from routing.image_routes import ImageWay
from storage import pictures

log = structlog.get_logger()

#: Shots of one job that are on their way at a time.
AT_ONCE = 4
#: What nobody waits for may take a day, and each of its images as long as any.
BATCH_SECONDS = 24 * 3600.0
#: A provider gets this long to take note that nobody wants its images any more.
CANCEL_SECONDS = 10.0

#: Whoever ends a job so gives it to another worker: what was begun goes on.
HANDED_ON = (HandedBack, LeaseLost)
#: After these nobody waits any more for what a provider works on.
NOBODY_WAITS = (errors.JobCancelled, errors.ProviderTimeout)

LOST = (
    "The worker that had asked for this image is gone. It may have been made, so it was not asked "
    "for again, and it is not charged. Try again."
)
OUR_SIDE = "Something went wrong on our side."


@dataclass
class Shot:
    """One call for the images `place` to `place + count - 1`."""

    place: int
    count: int
    #: Who works on it, with which key and under which id, once that is known.
    provider: ImageProvider | None = None
    secret: str = ""
    started: str | None = None
    errors: dict[int, LikeDoError] = field(default_factory=dict)
    usage: dict[str, Any] | None = None

    @property
    def places(self) -> range:
        return range(self.place, self.place + self.count)


@dataclass
class Running(ending.Running):
    """An image job while it runs."""

    folder: Path = Path()
    request: ImageRequest | None = None
    ways: list[ImageWay] = field(default_factory=list)
    shots: list[Shot] = field(default_factory=list)
    #: The images that are stored, by place.
    kept: dict[int, Media | Row[Any]] = field(default_factory=dict)
    #: Credits for each of them.
    prices: dict[int, int] = field(default_factory=dict)
    #: Why nobody can be asked for what an earlier worker did not ask for.
    obstacle: LikeDoError | None = None
    #: Whether some of it is left for another worker, because this one stops.
    is_left: bool = False

    def used(self) -> Images | None:
        """Return the images that were stored before the job was cancelled."""
        return _images(self) if self.kept else None


def run(job_id: str) -> Ended | Retry | None:
    """Run a queued image job to its end, and return what its waiters are to hear.

    Returns RQ's `Retry` where the job was handed back and belongs in the queue again; None where
    it was not there to be claimed, or is no longer ours.
    """
    claim = rows.claim(job_id, work.lease) if work.may_claim else None
    if claim is None:
        return None
    seconds = BATCH_SECONDS if claim.kind == "batch" else None
    with (
        work.calling(job_id, seconds) as call,
        tempfile.TemporaryDirectory(dir=folders.own()) as folder,
    ):
        running = Running(claim, call, trail=claim.trail, folder=Path(folder))
        if claim.is_cancelled:
            # It was when no worker had it, and some of it may be stored: it is only to be ended.
            call.abort(errors.JobCancelled("The job was cancelled."))
        return ending.bring_to_end(running, lambda: _make(running))


def _make(running: Running) -> Images:
    # What was made is delivered and paid for, whatever becomes of the rest.
    earlier = surely(lambda: shots.of_job(running.id))
    running.kept = {kept.place: kept for kept in surely(lambda: media.of_job(running.id))}
    running.call.asked = bool(earlier)
    if not earlier:
        running.call.check()
    _prepare(running, media.RETRY_SECONDS if earlier else ())
    if running.obstacle and not earlier:
        raise running.obstacle
    taking = Pool(AT_ONCE)
    taken = [taking.spawn(take) for take in _takes(running, earlier)]
    gevent.joinall(taken)
    for each in taken:
        each.get()
    _raise_what_ended_it(running)
    return _images(running)


def _prepare(running: Running, pauses: Sequence[float]) -> None:
    """Find out what is asked and how to have it made, or what stands in the way of that."""
    for pause in (*pauses, None):
        try:
            running.request = ImageRequest.checked(orjson.loads(running.body()))
            running.ways = image_routes.find(running.request)
            # What could not be kept is not worth asking for.
            storage.ready()
            return
        except LikeDoError as error:
            running.obstacle = error
        is_passing = isinstance(running.obstacle, errors.Unavailable)
        if pause is None or not is_passing or running.call.is_over:
            return
        log.warning("image.waits", job=running.id, reason=running.obstacle.message)
        gevent.sleep(pause)
        running.obstacle = None


def _raise_what_ended_it(running: Running) -> None:
    """Raise why the job was ended from outside; and where no image came, why not."""
    reason = running.call.reason
    if isinstance(reason, (*HANDED_ON, errors.JobCancelled)):
        raise reason
    if running.is_left:
        raise HandedBack("The worker is stopping.")
    if not running.kept:
        raise next(iter(_errors(running).values()))


# ---- Which shots there are -----------------------------------------------------------------------


def _takes(running: Running, earlier: list[Row[Any]]) -> Iterator[Callable[[], None]]:
    """Yield what is to be done: shots of an earlier worker taken up, and the others asked for."""
    for row in earlier:
        shot = Shot(row.place, row.images)
        running.shots.append(shot)
        way = _way_of(running, row)
        _remember(running, shot, row, way)
        if take := _take_up(running, shot, row, way):
            yield take
    covered = {place for shot in running.shots for place in shot.places}
    for shot in _new_shots(running, covered):
        running.shots.append(shot)
        if reason := running.call.reason or running.obstacle:
            shot.errors = dict.fromkeys(shot.places, reason)
        else:
            yield _asking(running, shot)


def _remember(running: Running, shot: Shot, row: Row[Any], way: ImageWay | None) -> None:
    """Note who was asked for a shot by an earlier worker, and what its images cost."""
    price = EachPrice(way.credits) if way else pricing.from_text(running.claim.job.price)
    assert isinstance(price, EachPrice)
    running.prices |= dict.fromkeys(shot.places, price.each)
    if running.asked.provider is None or running.kept.keys() & set(shot.places):
        running.asked = Asked(row.provider, row.upstream_model, price, running.trail)


def _new_shots(running: Running, covered: set[int]) -> Iterator[Shot]:
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
            yield Shot(place, count)
        place += count or 1


def _take_up(
    running: Running, shot: Shot, row: Row[Any], way: ImageWay | None
) -> Callable[[], None] | None:
    """Return what is left to do of a shot that an earlier worker had begun; None: nothing is."""
    if row.status == ShotStatus.DONE:
        records = orjson.loads(row.errors or "{}")
        shot.errors = {int(at): errors.from_record(record) for at, record in records.items()}
        shot.usage = orjson.loads(row.usage) if row.usage else None
        return None
    secret = _secret_of(row)
    if row.status == ShotStatus.ASKED or secret is None:
        return lambda: _lose(running, shot)
    shot.provider, shot.secret = providers.images[row.provider], secret
    shot.started = str(row.started)
    return _resuming(running, shot, way) if way else lambda: _lose(running, shot)


def _way_of(running: Running, row: Row[Any]) -> ImageWay | None:
    """Return the way that a shot went, though it may be closed to others by now."""
    wanted = (row.model, row.provider, row.upstream_model)
    ways = [*running.ways, *_ways_to(row.model, running.request)]
    return next((w for w in ways if (w.model.id, w.provider, w.upstream_model) == wanted), None)


def _ways_to(model_id: str, request: ImageRequest | None) -> list[ImageWay]:
    model = catalog.images.get(model_id)
    if model is None or request is None:
        return []
    is_fallback = catalog.images.get(request.model) is not model
    asked = request.for_fallback(model_id) if is_fallback else request
    return [ImageWay(asked, model, route) for route in model.routes]


def _secret_of(row: Row[Any]) -> str | None:
    """Return the key that a shot was asked for with; None where it is no longer ours."""
    known = settings.keys_of(row.provider) or [""]
    return next((key for key in known if breakers.of(row.provider, key).key_id == row.key_id), None)


def _lose(running: Running, shot: Shot) -> None:
    log.warning("image.lost", job=running.id, place=shot.place, count=shot.count)
    if shot.started is not None:
        _cancel_upstream(shot)
    _fail(running, shot, errors.Unavailable(LOST))


# ---- Taking one ----------------------------------------------------------------------------------


def _asking(running: Running, shot: Shot) -> Callable[[], None]:
    def ask(call: Call) -> Drawn:
        attempts = Attempts(
            running.ways, call, running.trail, told=lambda: _tell(running), costs_each_time=True
        )
        return attempts.answer(lambda attempt: _ask_one(running, shot, attempt, call))

    return lambda: None if _leaves(running) else _take(running, shot, ask)


def _leaves(running: Running) -> bool:
    """Tell whether what is not asked for yet is left for another worker, and note that it is."""
    # It would take longer than a stopping worker has; nobody waits for a batch.
    running.is_left |= work.is_stopping and running.claim.kind == "batch"
    return running.is_left


def _resuming(running: Running, shot: Shot, way: ImageWay) -> Callable[[], None]:
    def resume(call: Call) -> Drawn:
        wanted = _wanted(shot, way)
        assert shot.provider is not None and shot.started is not None
        return shot.provider.resume(
            shot.started, wanted, way.route, shot.secret, call, running.folder
        )

    return lambda: _take(running, shot, resume)


def _take(running: Running, shot: Shot, have_drawn: Callable[[Call], Drawn]) -> None:
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
        _fail(running, shot, errors.InternalError(OUR_SIDE))


def _take_in(running: Running, shot: Shot, have_drawn: Callable[[Call], Drawn]) -> None:
    # A call of its own, for the time that each way has; it ends with the job's.
    with http.part(running.call, settings.job_timeout_seconds) as call:
        drawn = have_drawn(call)
    shot.usage = drawn.usage
    for place, picture in zip(shot.places, drawn.pictures, strict=True):
        if place not in running.kept:
            _keep(running, shot, place, picture)
    surely(lambda: shots.end(running.id, shot.place, shot.errors, shot.usage))


def _ask_one(running: Running, shot: Shot, attempt: Attempt[ImageWay], call: Call) -> Drawn:
    """Ask one provider, once, and never again without knowing that it did not hear."""
    if _leaves(running):
        raise HandedBack("The worker is stopping.")
    way, key = attempt.way, attempt.key
    if not shots.ask(running.claim.job, shot.place, shot.count, way, key.breaker.key_id):
        lost = LeaseLost("The job is another worker's by now.")
        running.call.abort(lost)
        raise lost
    running.call.asked = True
    running.asked = _asked(running, way)
    running.prices |= dict.fromkeys(shot.places, way.credits)
    shot.provider, shot.secret, shot.started = providers.images[way.provider], key.secret, None

    def start(started: str) -> None:
        shot.started = started
        surely(lambda: shots.start(running.id, shot.place, started))

    wanted = _wanted(shot, way)
    try:
        return shot.provider.draw(wanted, way.route, key.secret, call, running.folder, start)
    except LikeDoError as error:
        if error.nothing_ran and shot.started is None:
            surely(lambda: shots.take_back(running.claim.job, shot.place))
        raise


def _wanted(shot: Shot, way: ImageWay) -> Wanted:
    request = way.request.of_prompt(shot.place // way.request.count)
    return image.wanted(request, way.route, shot.count)


def _asked(running: Running, way: ImageWay) -> Asked:
    return Asked(way.provider, way.upstream_model, EachPrice(way.credits), running.trail)


def _tell(running: Running) -> None:
    """Let those who follow the job see what failed, before it has ended."""
    try:
        rows.note_trail(running.claim.job, running.trail)
    except errors.Unavailable as error:
        log.warning("job.trail_waits", job=running.id, reason=error.message)


def _keep(running: Running, shot: Shot, place: int, picture: Picture | LikeDoError) -> None:
    """Look into one image and store it; one that is none, or cannot be stored, is an error."""
    assert running.request is not None
    if isinstance(picture, LikeDoError):
        shot.errors[place] = picture
        return
    target = picture.path.with_name(f"{picture.path.name}.finished")
    request = running.request
    try:
        finished = pictures.finish(
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
        shot.errors[place] = errors.InternalError(OUR_SIDE)
    finally:
        picture.path.unlink(missing_ok=True)
        target.unlink(missing_ok=True)


def _fail(running: Running, shot: Shot, error: LikeDoError) -> None:
    shot.errors |= {place: error for place in shot.places if place not in running.kept}
    surely(lambda: shots.end(running.id, shot.place, shot.errors, shot.usage))


def _cancel_upstream(shot: Shot) -> None:
    """Tell the provider that nobody waits any more for what it may still be working on."""
    assert shot.provider is not None and shot.started is not None
    try:
        shot.provider.cancel(shot.started, shot.secret, Call(CANCEL_SECONDS))
    except LikeDoError as error:
        log.warning("image.not_cancelled", provider=shot.provider.name, reason=error.message)


# ---- What became of them -------------------------------------------------------------------------


def _images(running: Running) -> Images:
    content: dict[str, Any] = {
        "created": int(time.time()),
        "data": [media.datum(running.kept[place]) for place in sorted(running.kept)],
    }
    if running.claim.kind == "batch":
        for place, said in zip(sorted(running.kept), content["data"], strict=True):
            said["index"] = place
    if failed := _errors(running):
        content["errors"] = [
            {"index": place, "error": error.as_json()} for place, error in failed.items()
        ]
    if usage := _sum([shot.usage for shot in running.shots if shot.usage]):
        content["usage"] = usage
    # How callers want the images is theirs who hand them over to see to.
    content["forms"] = _forms(running)
    credits = sum(running.prices[place] for place in running.kept)
    return Images(content, credits, running.asked)


def _forms(running: Running) -> list[str]:
    if running.request is not None and (asked := running.request.response_format):
        return [asked]
    model = catalog.images.get(running.claim.model)
    return ["url", "b64_json"] if model is not None and model.answers_base64 else ["url"]


def _errors(running: Running) -> dict[int, LikeDoError]:
    """Return why each image that is not there is not, by place."""
    found = {place: error for shot in running.shots for place, error in shot.errors.items()}
    return {place: found[place] for place in sorted(found) if place not in running.kept}


def _sum(usages: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the sum of the counts of all `usages`, those within details included."""
    total: dict[str, Any] = {}
    for usage in usages:
        for name, count in usage.items():
            if isinstance(count, dict):
                total[name] = _sum([total.get(name, {}), count])
            else:
                total[name] = total.get(name, 0) + count
    return total
