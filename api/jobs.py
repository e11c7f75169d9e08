"""The caller's own jobs."""

import time

import orjson
from flask import Blueprint, Response, request

from api.request import admission, pagination
from api.response import events, images
from api.response.listening import listening
from billing import ledger, pricing
from jobs.kinds import KINDS
from jobs.lifecycle import cancel, listing, store, view
from jobs.lifecycle.view import as_json
from models.errors import InvalidRequest, JobAlreadyFinished, JobCancelled, NotFound
from models.job import FINAL, Job, Status

bp = Blueprint("jobs", __name__)

#: Jobs in a page.
DEFAULT_LIMIT, MAX_LIMIT = 20, 100
#: A worker ends a cancelled job within a second; a blocked worker may take longer.
CANCEL_SECONDS = 5
LOOK_SECONDS = 0.5
CANCELLED = JobCancelled("The job was cancelled.")


@bp.get("/jobs")
def list_jobs() -> Response:
    """List the caller's jobs, the newest first; each one's result is `null` here."""
    account_id = admission.caller().account_id
    limit = pagination.limit(DEFAULT_LIMIT, MAX_LIMIT)
    rows = listing.newest(
        limit + 1,
        account_id,
        pagination.one_of("status", Status),
        pagination.one_of("kind", list(KINDS)),
        _after(request.args.get("after"), account_id),
    )
    return pagination.page(rows, limit, lambda row: as_json(row) | {"result": None})


def _after(job_id: str | None, account_id: int) -> Job | None:
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
    """Return one job, with its result for as long as that is kept."""
    return _with_result(_own(job_id))


def _own(job_id: str) -> Job:
    """Return a job of the caller's account; raise `NotFound` for any other."""
    row = store.find(job_id, admission.caller().account_id)
    if row is None:
        raise NotFound(f"There is no job '{job_id}'.")
    return row


def _with_result(row: Job) -> Response:
    return Response(view.with_result(row, images.base_url()), content_type="application/json")


@bp.post("/jobs/<job_id>/cancel")
def cancel_job(job_id: str) -> Response:
    """Cancel a job, unless it was cancelled before, and return it."""
    admission.peek()
    row = _own(job_id)
    if row.status not in FINAL:
        cancel.cancel(row.id, CANCELLED)
        row = _wait_for_end(row)
    if row.status in FINAL and row.status != Status.CANCELLED:
        raise JobAlreadyFinished(f"The job has ended before: it is {row.status}.")
    return _with_result(row)


def _wait_for_end(row: Job) -> Job:
    """Return the job once its worker has ended it, or after `CANCEL_SECONDS` as it is."""
    deadline = time.monotonic() + CANCEL_SECONDS
    with listening(row.id) as wait:
        wait.wait_until_confirmed()
        current = store.find(row.id) or row
        while current.status not in FINAL and (left := deadline - time.monotonic()) > 0:
            wait.subscription.get(min(left, LOOK_SECONDS))
            current = store.find(row.id) or row
    return current


@bp.get("/jobs/<job_id>/receipt")
def get_receipt(job_id: str) -> Response:
    """Return what a job cost, why, and the ledger entries that record it."""
    row = _own(job_id)
    usage = orjson.loads(row.usage) if row.usage else None
    estimated = bool(usage.pop("estimated", False)) if usage else False
    charged = row.charged if row.status in FINAL else None
    content = {
        "job": row.id,
        "held": row.held,
        "charged": charged,
        "released": None if charged is None else max(0, row.held - charged),
        "price": pricing.as_json(pricing.from_text(row.price)),
        "usage": usage,
        "estimated": estimated,
        "entries": [
            {
                "id": entry.id,
                "kind": entry.kind,
                "credits": entry.credits,
                "balance_after": entry.balance_after,
                "created": int(entry.created),
            }
            for entry in ledger.entries_of(row.id)
        ],
    }
    return Response(orjson.dumps(content), content_type="application/json")


@bp.get("/jobs/<job_id>/events")
def get_events(job_id: str) -> Response:
    """Follow one job: its trail and, if it streams, the events after the last one seen."""
    row = _own(job_id)
    return events.follow(row, _last_seen())


def _last_seen() -> int:
    """Return the number of the last event that the reader has, 0 if it has none."""
    numbers = {
        "starting_after": request.args.get("starting_after"),
        "Last-Event-ID": request.headers.get("Last-Event-ID"),
    }
    return max(_number(name, text) for name, text in numbers.items())


def _number(name: str, text: str | None) -> int:
    if not text:
        return 0
    # A browser sends back the last id it saw, in a header that may be garbage or over long.
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise InvalidRequest(
            f"Invalid value for '{name}': it must be the number of an event.", param=name
        )
    return int(text)
