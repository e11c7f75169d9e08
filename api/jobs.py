"""The caller's own jobs."""

import time
from collections.abc import Iterator
from contextlib import closing
from itertools import chain
from typing import Any

import orjson
from flask import Blueprint, Response, g, request
from sqlalchemy import Row

from api import answers, guards, lists, pictures, prefer, streams
from billing import ledger, pricing
from jobs import cancelling, media, rows
from jobs.media import datum
from jobs.pictures import rendered
from jobs.shown import as_json
from models import errors
from models.job import FINAL, IMAGES, Status

bp = Blueprint("jobs", __name__)

KINDS = ("chat", "image", "batch")
#: Jobs in a list, unless the caller says how many, and at most.
LISTED, MOST_LISTED = 20, 100
#: When it is worth asking for a job again, in seconds.
POLL_SECONDS = 1
#: A worker ends a cancelled job within a second; one that is blocked may take longer.
CANCEL_SECONDS = 5
LOOK_SECONDS = 0.5
CANCELLED = errors.JobCancelled("The job was cancelled.")


@bp.get("/jobs")
def list_jobs() -> Response:
    """List the caller's jobs, the newest first; each one's result is `null` here."""
    account_id = guards.caller().account_id
    limit = lists.limit(LISTED, MOST_LISTED)
    found = rows.listing(
        limit + 1,
        account_id,
        lists.one_of("status", Status),
        lists.one_of("kind", KINDS),
        _after(request.args.get("after"), account_id),
    )
    return lists.page(found, limit, lambda row: as_json(row) | {"result": None})


def _after(job_id: str | None, account_id: int) -> Row[Any] | None:
    if job_id is None:
        return None
    row = rows.find(job_id, account_id)
    if row is None:
        raise errors.InvalidRequest(
            f"Invalid value for 'after': there is no job '{job_id}'.", param="after"
        )
    return row


@bp.get("/jobs/<job_id>")
def get_job(job_id: str) -> Response:
    """Answer one job, its result included for as long as that is kept."""
    row = _own(job_id)
    return Response(whole(row, pictures.own_address()), content_type="application/json")


def _own(job_id: str) -> Row[Any]:
    """Return a job of the caller's account; raise `NotFound` for any other."""
    row = rows.find(job_id, guards.caller().account_id)
    if row is None:
        raise errors.NotFound(f"There is no job '{job_id}'.")
    return row


def accepted(row: Row[Any]) -> Response:
    """Return a job that its caller is to come back for: 202, and where to."""
    headers = g.job_headers | {
        "Location": f"/api/v1/ai/jobs/{row.id}",
        "Retry-After": str(POLL_SECONDS),
    }
    if prefer.asynchronously():
        headers["Preference-Applied"] = "respond-async"
    body = whole(row, pictures.own_address())
    return Response(body, status=202, content_type="application/json", headers=headers)


def _so_far(row: Row[Any]) -> bytes:
    """Return the images of a job that runs, as it keeps them when it has ended."""
    kept = [{"index": image.place} | datum(image) for image in media.of_job(row.id)]
    return orjson.dumps({"created": int(row.created), "data": kept, "forms": ["url"]})


@bp.post("/jobs/<job_id>/cancel")
def cancel_job(job_id: str) -> Response:
    """Cancel a job, and answer it as it stands then; one that was cancelled already, as well."""
    guards.look()
    row = _own(job_id)
    if row.status not in FINAL:
        cancelling.cancel(row.id, CANCELLED)
        row = _wait_for_end(row)
    if row.status in FINAL and row.status != Status.CANCELLED:
        raise errors.JobAlreadyFinished(f"The job has ended before: it is {row.status}.")
    return Response(whole(row, pictures.own_address()), content_type="application/json")


def _wait_for_end(row: Row[Any]) -> Row[Any]:
    """Return the job when its worker has ended it, or after some seconds as it stands."""
    deadline = time.monotonic() + CANCEL_SECONDS
    with closing(answers.listener().listen(row.id)) as waiter:
        waiter.ready()
        found = rows.find(row.id) or row
        while found.status not in FINAL and (left := deadline - time.monotonic()) > 0:
            waiter.get(min(left, LOOK_SECONDS))
            found = rows.find(row.id) or row
    return found


@bp.get("/jobs/<job_id>/receipt")
def get_receipt(job_id: str) -> Response:
    """Answer what a job has cost, why, and which entries of the ledger say so."""
    row = _own(job_id)
    usage = orjson.loads(row.usage) if row.usage else None
    estimated = bool(usage.pop("estimated", False)) if usage else False
    done = row.status in FINAL
    content = {
        "job": row.id,
        "held": row.held,
        "charged": row.charged if done else None,
        "released": max(0, row.held - row.charged) if done else None,
        "price": pricing.as_json(pricing.from_text(row.price)),
        "usage": usage,
        "estimated": estimated,
        "entries": [entry_as_json(entry) for entry in ledger.entries_of(row.id)],
    }
    return Response(orjson.dumps(content), content_type="application/json")


def entry_as_json(entry: Row[Any]) -> dict[str, Any]:
    """Return an entry of the ledger as callers see it everywhere."""
    names = ("id", "kind", "credits", "balance_after")
    return {name: getattr(entry, name) for name in names} | {"created": int(entry.created)}


def whole(row: Row[Any], address: str) -> Iterator[bytes]:
    """Return a job with its result as JSON, in pieces, since that may hold images.

    `address`: where links to images begin, unless `PUBLIC_URL` or the storage say where.
    """
    job = orjson.dumps(as_json(row))
    body = rows.result(row.id) if row.status in (Status.COMPLETED, Status.CANCELLED) else None
    if body is None and row.kind in IMAGES and row.asynchronous and row.status not in FINAL:
        body = _so_far(row)
    if body is None:
        result = iter([b"null"])
    elif row.kind in IMAGES:
        _, result = rendered(body, address)
    else:
        result = iter([body])
    return chain([job[:-1], b',"result":'], result, [b"}"])


@bp.get("/jobs/<job_id>/events")
def get_events(job_id: str) -> Response:
    """Follow one job: its trail and, where it streams, the chunks after the one last seen."""
    row = _own(job_id)
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
