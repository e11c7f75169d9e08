"""The outcome of an image job: its images, errors and usage."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Row

from billing.outcomes import ImagesOutcome
from config.catalog.load import catalog
from jobs.kinds.image import BULK_IMAGE
from jobs.worker.run_job import RunningJob
from models.errors import LikeDoError
from models.image import ImageRequest
from models.media import Media
from providers.image import ImageProvider
from routing.image_candidates import ImageCandidate
from storage import media


@dataclass
class ImageCall:
    """One provider call, for the job's images `first` to `first + count - 1`."""

    first: int
    count: int
    #: Once known: the provider that works on it, the key used, and the provider's id for it.
    provider: ImageProvider | None = None
    secret: str = ""
    started: str | None = None
    #: By index in the job.
    errors: dict[int, LikeDoError] = field(default_factory=dict)
    usage: dict[str, Any] | None = None

    @property
    def indexes(self) -> range:
        return range(self.first, self.first + self.count)


@dataclass
class ImageJob(RunningJob):
    """An image job while it runs."""

    folder: Path = Path()
    request: ImageRequest | None = None
    candidates: list[ImageCandidate] = field(default_factory=list)
    provider_calls: list[ImageCall] = field(default_factory=list)
    #: The images that are stored, by index.
    stored: dict[int, Media | Row[Any]] = field(default_factory=dict)
    #: Credits for each image, by index.
    prices: dict[int, int] = field(default_factory=dict)
    #: Why no provider can be called for further images, if so.
    obstacle: LikeDoError | None = None
    #: Whether calls were left to another worker because this one is stopping.
    has_postponed: bool = False

    def partial_outcome(self) -> ImagesOutcome | None:
        """Return the images that were stored before the job was cancelled."""
        return images(self) if self.stored else None


def images(job: ImageJob) -> ImagesOutcome:
    """Return the outcome of a job: the images that are stored."""
    data = {index: media.datum(job.stored[index]) for index in sorted(job.stored)}
    if job.claim.kind == BULK_IMAGE.name:
        for index, datum in data.items():
            datum["index"] = index
    content: dict[str, Any] = {"created": int(time.time()), "data": list(data.values())}
    if failed := errors(job):
        content["errors"] = [
            {"index": index, "error": error.as_json()} for index, error in failed.items()
        ]
    if usage := _sum([call.usage for call in job.provider_calls if call.usage]):
        content["usage"] = usage
    # The answer is rendered in these formats when a caller gets it.
    content["forms"] = _response_formats(job)
    credits = sum(job.prices[index] for index in job.stored)
    return ImagesOutcome(content, credits, job.upstream)


def _response_formats(job: ImageJob) -> list[str]:
    if job.request is not None and (requested := job.request.response_format):
        return [requested]
    model = catalog.images.get(job.claim.model)
    return ["url", "b64_json"] if model is not None and model.answers_base64 else ["url"]


def errors(job: ImageJob) -> dict[int, LikeDoError]:
    """Return the error of each image that is not stored, by index."""
    by_index = {index: error for call in job.provider_calls for index, error in call.errors.items()}
    return {index: by_index[index] for index in sorted(by_index) if index not in job.stored}


def _sum(usages: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the sum of the counts of all `usages`, including those within details."""
    total: dict[str, Any] = {}
    for usage in usages:
        for name, count in usage.items():
            if isinstance(count, dict):
                total[name] = _sum([total.get(name, {}), count])
            else:
                total[name] = total.get(name, 0) + count
    return total
