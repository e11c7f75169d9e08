"""The caller's own jobs."""

from collections.abc import Iterator
from itertools import chain
from typing import Any

import orjson
from flask import Blueprint, Response, request
from sqlalchemy import Row

from api import guards, pictures, streams
from jobs import media, rows
from models import errors
from models.job import Status

bp = Blueprint("jobs", __name__)


@bp.get("/jobs/<job_id>")
def get_job(job_id: str) -> Response:
    """Answer one job, its result included for as long as that is kept."""
    row = rows.find(job_id, guards.caller().account_id)
    if row is None:
        raise errors.NotFound(f"There is no job '{job_id}'.")
    return Response(whole(row, pictures.own_address()), content_type="application/json")


def whole(row: Row[Any], address: str) -> Iterator[bytes]:
    """Return a job with its result as JSON, in pieces, since that may hold images.

    `address`: where links to images begin, unless `PUBLIC_URL` or the storage say where.
    """
    job = orjson.dumps(as_json(row))
    body = rows.result(row.id) if row.status in (Status.COMPLETED, Status.CANCELLED) else None
    if body is None:
        result = iter([b"null"])
    elif row.kind == "image":
        _, result = pictures.rendered(body, address)
    else:
        result = iter([body])
    return chain([job[:-1], b',"result":'], result, [b"}"])


@bp.get("/jobs/<job_id>/events")
def get_events(job_id: str) -> Response:
    """Follow one job: its trail and, where it streams, the chunks after the one last seen."""
    row = rows.find(job_id, guards.caller().account_id)
    if row is None:
        raise errors.NotFound(f"There is no job '{job_id}'.")
    return streams.follow(row, _last_seen())


def _last_seen() -> int:
    """Return the number of the last event that the reader has, 0 where it has none."""
    asked = {
        "starting_after": request.args.get("starting_after"),
        "Last-Event-ID": request.headers.get("Last-Event-ID"),
    }
    return max(_number(name, text) for name, text in asked.items())


def _number(name: str, text: str | None) -> int:
    if not text:
        return 0
    # A browser sends the id it saw last, in a header; more than a number may not come back.
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise errors.InvalidRequest(
            f"Invalid value for '{name}': it must be the number of an event.", param=name
        )
    return int(text)


def as_json(row: Row[Any]) -> dict[str, Any]:
    """Return a job as callers see it, without its result; times are Unix seconds."""
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
        "queue_position": rows.position(row),
        "progress": {"completed": _completed(row), "total": row.total},
        "credits_held": row.held,
        "credits_consumed": row.charged,
        "error": errors.from_record(orjson.loads(row.error)).as_json() if row.error else None,
    }


def _seconds(at: float | None) -> int | None:
    return None if at is None else int(at)


def _completed(row: Row[Any]) -> int:
    """Return how many of its answers or images are there."""
    if row.kind == "image":
        return len(media.of_job(row.id))
    return int(row.status == Status.COMPLETED)
