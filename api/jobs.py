"""The caller's own jobs."""

import time
from contextlib import closing
from typing import Any

import orjson
from flask import Blueprint, Response, request
from sqlalchemy import Row

from api.request import admission, pagination
from api.response import events, images
from billing import ledger, pricing
from jobs.following import listener
from jobs.kinds import KINDS
from jobs.lifecycle import cancel, store, view
from jobs.lifecycle.view import as_json
from models.errors import InvalidRequest, JobAlreadyFinished, JobCancelled, NotFound
from models.job import FINAL, Status

bp = Blueprint("jobs", __name__)

#: Jobs in a list, unless the caller says how many, and at most.
LISTED, MAX_LISTED = 20, 100
#: A worker ends a cancelled job within a second; one that is blocked may take longer.
CANCEL_SECONDS = 5
LOOK_SECONDS = 0.5
CANCELLED = JobCancelled("The job was cancelled.")


@bp.get("/jobs")
def list_jobs() -> Response:
    """List the caller's jobs, the newest first; each one's result is `null` here."""
    account_id = admission.caller().account_id
    limit = pagination.limit(LISTED, MAX_LISTED)
    found = store.listing(
        limit + 1,
        account_id,
        pagination.one_of("status", Status),
        pagination.one_of("kind", list(KINDS)),
        _after(request.args.get("after"), account_id),
    )
    return pagination.page(found, limit, lambda row: as_json(row) | {"result": None})


def _after(job_id: str | None, account_id: int) -> Row[Any] | None:
    if job_id is None:
        return None
    row = store.find(job_id, account_id)
    if row is None:
        raise InvalidRequest(
            f"Invalid value for 'after': there is no job '{job_id}'.", param="after"
        )
    return row


@bp.get("/jobs/<job_id>")
def get_job(job_id: str) -> Response:
    """Answer one job, its result included for as long as that is kept."""
    row = _own(job_id)
    return Response(view.with_result(row, images.own_address()), content_type="application/json")


def _own(job_id: str) -> Row[Any]:
    """Return a job of the caller's account; raise `NotFound` for any other."""
    row = store.find(job_id, admission.caller().account_id)
    if row is None:
        raise NotFound(f"There is no job '{job_id}'.")
    return row


@bp.post("/jobs/<job_id>/cancel")
def cancel_job(job_id: str) -> Response:
    """Cancel a job, and answer it as it stands then; one that was cancelled already, as well."""
    admission.peek()
    row = _own(job_id)
    if row.status not in FINAL:
        cancel.cancel(row.id, CANCELLED)
        row = _wait_for_end(row)
    if row.status in FINAL and row.status != Status.CANCELLED:
        raise JobAlreadyFinished(f"The job has ended before: it is {row.status}.")
    return Response(view.with_result(row, images.own_address()), content_type="application/json")


def _wait_for_end(row: Row[Any]) -> Row[Any]:
    """Return the job when its worker has ended it, or after some seconds as it stands."""
    deadline = time.monotonic() + CANCEL_SECONDS
    with closing(listener.listener().listen(row.id)) as waiter:
        waiter.ready()
        found = store.find(row.id) or row
        while found.status not in FINAL and (left := deadline - time.monotonic()) > 0:
            waiter.get(min(left, LOOK_SECONDS))
            found = store.find(row.id) or row
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


def entry_as_json(entry: ledger.EntryRow) -> dict[str, Any]:
    """Return an entry of the ledger as callers see it everywhere."""
    names = ("id", "kind", "credits", "balance_after")
    return {name: getattr(entry, name) for name in names} | {"created": int(entry.created)}


@bp.get("/jobs/<job_id>/events")
def get_events(job_id: str) -> Response:
    """Follow one job: its trail and, where it streams, the chunks after the one last seen."""
    row = _own(job_id)
    return events.follow(row, _last_seen())


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
        raise InvalidRequest(
            f"Invalid value for '{name}': it must be the number of an event.", param=name
        )
    return int(text)
