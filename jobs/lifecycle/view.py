"""A job as its caller gets to see it, over HTTP and in webhooks."""

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
from storage.media import datum


def as_json(row: Job) -> dict[str, Any]:
    """Return a job as callers see it, without its result; times are Unix seconds."""
    position = store.position(row)
    return {
        "id": row.id,
        "object": "job",
        "kind": row.kind,
        "status": row.status,
        "created": int(row.created),
        "started_at": _seconds(row.started_at),
        "finished_at": _seconds(row.finished_at),
        "model": row.model,
        "provider": row.provider,
        "attempts": store.attempts(row),
        "queue_position": position,
        "estimated_wait_seconds": throughput.wait_seconds(row.kind, position),
        "progress": {"completed": _completed(row), "total": row.total},
        "credits_held": row.held,
        "credits_consumed": row.charged,
        "error": errors.from_record(orjson.loads(row.error)).as_json() if row.error else None,
    }


def _seconds(at: float | None) -> int | None:
    return None if at is None else int(at)


def _completed(row: Job) -> int:
    """Return how many of its answers or images are there."""
    if KINDS[row.kind].makes_images:
        return media.count(row.id)
    return int(row.status == Status.COMPLETED)


def moment(at: float) -> str:
    """Return Unix seconds as RFC 3339 has them, to the millisecond."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _images_so_far(row: Job) -> bytes:
    """Return the images of a job that runs, as it keeps them when it has ended."""
    kept = [{"index": image.place} | datum(image) for image in media.of_job(row.id)]
    return orjson.dumps({"created": int(row.created), "data": kept, "forms": ["url"]})


def with_result(row: Job, address: str) -> Iterator[bytes]:
    """Return a job with its result as JSON, in pieces, since that may hold images.

    `address`: where links to images begin, unless `PUBLIC_URL` or the storage say where.
    """
    job = orjson.dumps(as_json(row))
    body = store.result(row.id) if row.status in (Status.COMPLETED, Status.CANCELLED) else None
    kind = KINDS[row.kind]
    if body is None and kind.makes_images and row.asynchronous and row.status not in FINAL:
        body = _images_so_far(row)
    result = iter([b"null"]) if body is None else kind.render(body, address)[1]
    return chain([job[:-1], b',"result":'], result, [b"}"])
