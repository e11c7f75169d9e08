"""Run one image job: have its images made, look into each, store them, and settle.

A provider is asked in shots: as many images at once as it makes, or several of them side by side.
Each shot has a row, so that whoever takes the job up after a worker's death waits for what a
provider works on, delivers what is stored, and asks nobody again.
"""

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
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
from billing.ledger import Asked, Images
from billing.pricing import EachPrice
from config.settings import settings
from jobs import ending, media, rows, shots
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

LOST = (
    "The worker that had asked for this image is gone. It may have been made, so it was not asked "
    "for again, and it is not charged. Try again."
)


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
        tempfile.TemporaryDirectory(prefix="likedo-") as folder,
    ):
        running = Running(claim, call, trail=claim.trail, folder=Path(folder))
        return ending.bring_to_end(running, lambda: _make(running))


def _make(running: Running) -> Images:
    running.request = request = ImageRequest.checked(orjson.loads(running.body()))
    running.ways = image_routes.find(request)
    # What could not be kept is not worth asking for.
    storage.ready()
    taking = Pool(AT_ONCE)
    taken = [taking.spawn(take) for take in _takes(running)]
    gevent.joinall(taken)
    for each in taken:
        each.get()
    _raise_what_ended_it(running)
    return _images(running)


def _raise_what_ended_it(running: Running) -> None:
    """Raise why the job was ended from outside; and where no image came, why not."""
    reason = running.call.reason
    if isinstance(reason, (*HANDED_ON, errors.JobCancelled)):
        raise reason
    if not running.kept:
        raise next(iter(_errors(running).values()))


# ---- Which shots there are -----------------------------------------------------------------------


def _takes(running: Running) -> Iterator[Callable[[], None]]:
    """Yield what is to be done: shots of an earlier worker taken up, and the others asked for."""
    running.kept = {kept.place: kept for kept in media.of_job(running.id)}
    earlier = shots.of_job(running.id)
    for row in earlier:
        shot = Shot(row.place, row.images)
        running.shots.append(shot)
        way = _way_of(row, running.ways)
        running.prices |= dict.fromkeys(shot.places, (way or running.ways[0]).credits)
        if take := _take_up(running, shot, row, way):
            yield take
    covered = {place for shot in running.shots for place in shot.places}
    for shot in _new_shots(running, covered):
        running.shots.append(shot)
        yield _asking(running, shot)


def _new_shots(running: Running, covered: set[int]) -> Iterator[Shot]:
    request = running.request
    assert request is not None
    # Any of the ways may have to make it.
    most = min(way.route.upstream.images_per_call for way in running.ways)
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
    if row.status == ShotStatus.ASKED or way is None or secret is None:
        return lambda: _lose(running, shot)
    shot.provider, shot.secret = providers.images[row.provider], secret
    shot.started = str(row.started)
    return _resuming(running, shot, way)


def _way_of(row: Row[Any], ways: Iterable[ImageWay]) -> ImageWay | None:
    wanted = (row.model, row.provider, row.upstream_model)
    return next((w for w in ways if (w.model.id, w.provider, w.upstream_model) == wanted), None)


def _secret_of(row: Row[Any]) -> str | None:
    """Return the key that a shot was asked for with; None where it is no longer ours."""
    known = settings.keys_of(row.provider) or [""]
    return next((key for key in known if breakers.of(row.provider, key).key_id == row.key_id), None)


def _lose(running: Running, shot: Shot) -> None:
    log.warning("image.lost", job=running.id, place=shot.place, count=shot.count)
    _fail(running, shot, errors.Unavailable(LOST))


# ---- Taking one ----------------------------------------------------------------------------------


def _asking(running: Running, shot: Shot) -> Callable[[], None]:
    def ask(call: Call) -> Drawn:
        attempts = Attempts(
            running.ways, call, running.trail, told=lambda: _tell(running), costs_each_time=True
        )
        return attempts.answer(lambda attempt: _ask_one(running, shot, attempt, call))

    return lambda: _take(running, shot, ask)


def _resuming(running: Running, shot: Shot, way: ImageWay) -> Callable[[], None]:
    def resume(call: Call) -> Drawn:
        running.asked = _asked(running, way)
        wanted = _wanted(shot, way)
        assert shot.provider is not None and shot.started is not None
        return shot.provider.resume(
            shot.started, wanted, way.route, shot.secret, call, running.folder
        )

    running.call.asked = True
    return lambda: _take(running, shot, resume)


def _take(running: Running, shot: Shot, have_drawn: Callable[[Call], Drawn]) -> None:
    """Have the images of one shot made and store them; what fails is in its errors."""
    try:
        # A call of its own, for the time that each way has; it ends with the job's.
        with http.part(running.call, settings.job_timeout_seconds) as call:
            drawn = have_drawn(call)
    except HANDED_ON:
        return
    except LikeDoError as error:
        _cancel_upstream(shot, error)
        _fail(running, shot, error)
        return
    shot.usage = drawn.usage
    for place, picture in zip(shot.places, drawn.pictures, strict=True):
        if place not in running.kept:
            _keep(running, shot, place, picture)
    surely(lambda: shots.end(running.id, shot.place, shot.errors, shot.usage))


def _ask_one(running: Running, shot: Shot, attempt: Attempt[ImageWay], call: Call) -> Drawn:
    """Ask one provider, once, and never again without knowing that it did not hear."""
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
    return shot.provider.draw(wanted, way.route, key.secret, call, running.folder, start)


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
    finally:
        picture.path.unlink(missing_ok=True)
        target.unlink(missing_ok=True)


def _fail(running: Running, shot: Shot, error: LikeDoError) -> None:
    shot.errors |= {place: error for place in shot.places if place not in running.kept}
    surely(lambda: shots.end(running.id, shot.place, shot.errors, shot.usage))


def _cancel_upstream(shot: Shot, why: LikeDoError) -> None:
    """Tell the provider that nobody waits any more for what it may still be working on."""
    if shot.started is None or not isinstance(why, errors.JobCancelled | errors.ProviderTimeout):
        return
    assert shot.provider is not None
    try:
        shot.provider.cancel(shot.started, shot.secret, Call(CANCEL_SECONDS))
    except LikeDoError as error:
        log.warning("image.not_cancelled", provider=shot.provider.name, reason=error.message)


# ---- What became of them -------------------------------------------------------------------------


def _images(running: Running) -> Images:
    assert running.request is not None
    content: dict[str, Any] = {
        "created": int(time.time()),
        "data": [media.datum(running.kept[place]) for place in sorted(running.kept)],
    }
    if running.request.is_batch:
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
    assert running.request is not None
    if asked := running.request.response_format:
        return [asked]
    both = image_routes.get_one(running.request.model).answers_base64
    return ["url", "b64_json"] if both else ["url"]


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
