"""The caller's view of a job, over HTTP and in webhooks."""

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import chain
from typing import Any

import orjson

from jobs.kinds import KINDS
from jobs.lifecycle import store, throughput
from models import errors
from models.job import FINAL, Job, Status
from storage import media


def as_json(job: Job) -> dict[str, Any]:
    """Return a job as callers see it, without its result; times are Unix seconds."""
    position = store.position(job)
    return {
        "id": job.id,
        "object": "job",
        "kind": job.kind,
        "status": job.status,
        "created": int(job.created),
        "started_at": _whole_seconds(job.started_at),
        "finished_at": _whole_seconds(job.finished_at),
        "model": job.model,
        "provider": job.provider,
        "attempts": store.attempts(job),
        "queue_position": position,
        "estimated_wait_seconds": throughput.wait_seconds(job.kind, position),
        "progress": {"completed": _completed(job), "total": job.total},
        "credits_held": job.held,
        "credits_consumed": job.charged,
        "error": errors.from_record(orjson.loads(job.error)).as_json() if job.error else None,
    }


def _whole_seconds(at: float | None) -> int | None:
    return None if at is None else int(at)


def _completed(job: Job) -> int:
    """Return how many of the job's answers or images there are."""
    if KINDS[job.kind].makes_images:
        return media.count(job.id)
    return int(job.status == Status.COMPLETED)


def rfc3339(at: float) -> str:
    """Return Unix seconds as an RFC 3339 timestamp with milliseconds."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def with_result(job: Job, base_url: str) -> Iterator[bytes]:
    """Return a job with its result as JSON, in pieces, since that may contain images.

    Links to images begin with `base_url`, unless `PUBLIC_URL` or the storage decides that.
    """
    without_result = orjson.dumps(as_json(job))
    body = store.result(job.id) if job.status in (Status.COMPLETED, Status.CANCELLED) else None
    kind = KINDS[job.kind]
    if body is None and kind.makes_images and job.asynchronous and job.status not in FINAL:
        body = _images_so_far(job)
    result = iter([b"null"]) if body is None else kind.render(body, base_url)[1]
    return chain([without_result[:-1], b',"result":'], result, [b"}"])


def _images_so_far(job: Job) -> bytes:
    """Return the images of a running job in the form of a stored answer."""
    data = [{"index": image.place} | media.datum(image) for image in media.of_job(job.id)]
    return orjson.dumps({"created": int(job.created), "data": data, "forms": ["url"]})
