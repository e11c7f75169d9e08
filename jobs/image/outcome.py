"""What an image job came to: its images, errors and usage."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Row

from billing.outcomes import ImagesOutcome
from config.catalog.load import catalog
from jobs.worker.run_job import RunningJob
from models.errors import LikeDoError
from models.image import ImageRequest
from models.media import Media
from providers.image import ImageProvider
from routing.image_candidates import ImageCandidate
from storage import media


@dataclass
class ImageCall:
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
class RunningImages(RunningJob):
    """An image job while it runs."""

    folder: Path = Path()
    request: ImageRequest | None = None
    ways: list[ImageCandidate] = field(default_factory=list)
    shots: list[ImageCall] = field(default_factory=list)
    #: The images that are stored, by place.
    kept: dict[int, Media | Row[Any]] = field(default_factory=dict)
    #: Credits for each of them.
    prices: dict[int, int] = field(default_factory=dict)
    #: Why nobody can be asked for what an earlier worker did not ask for.
    obstacle: LikeDoError | None = None
    #: Whether some of it is left for another worker, because this one stops.
    is_left: bool = False

    def used(self) -> ImagesOutcome | None:
        """Return the images that were stored before the job was cancelled."""
        return images(self) if self.kept else None


def images(running: RunningImages) -> ImagesOutcome:
    content: dict[str, Any] = {
        "created": int(time.time()),
        "data": [media.datum(running.kept[place]) for place in sorted(running.kept)],
    }
    if running.claim.kind == "batch":
        for place, said in zip(sorted(running.kept), content["data"], strict=True):
            said["index"] = place
    if failed := errors(running):
        content["errors"] = [
            {"index": place, "error": error.as_json()} for place, error in failed.items()
        ]
    if usage := _sum([shot.usage for shot in running.shots if shot.usage]):
        content["usage"] = usage
    # How callers want the images is theirs who hand them over to see to.
    content["forms"] = _forms(running)
    credits = sum(running.prices[place] for place in running.kept)
    return ImagesOutcome(content, credits, running.asked)


def _forms(running: RunningImages) -> list[str]:
    if running.request is not None and (asked := running.request.response_format):
        return [asked]
    model = catalog.images.get(running.claim.model)
    return ["url", "b64_json"] if model is not None and model.answers_base64 else ["url"]


def errors(running: RunningImages) -> dict[int, LikeDoError]:
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
