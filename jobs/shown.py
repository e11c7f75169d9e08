"""A job as its caller gets to see it, over HTTP and in webhooks."""

from datetime import UTC, datetime
from typing import Any

import orjson
from sqlalchemy import Row

from jobs import media, pace, rows
from models import errors
from models.job import IMAGES, Status


def as_json(row: Row[Any]) -> dict[str, Any]:
    """Return a job as callers see it, without its result; times are Unix seconds."""
    position = rows.position(row)
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
        "attempts": rows.attempts(row),
        "queue_position": position,
        "estimated_wait_seconds": pace.wait_seconds(row.kind, position),
        "progress": {"completed": _completed(row), "total": row.total},
        "credits_held": row.held,
        "credits_consumed": row.charged,
        "error": errors.from_record(orjson.loads(row.error)).as_json() if row.error else None,
    }


def _seconds(at: float | None) -> int | None:
    return None if at is None else int(at)


def _completed(row: Row[Any]) -> int:
    """Return how many of its answers or images are there."""
    if row.kind in IMAGES:
        return media.count(row.id)
    return int(row.status == Status.COMPLETED)


def moment(at: float) -> str:
    """Return Unix seconds as RFC 3339 has them, to the millisecond."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
