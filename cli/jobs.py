"""`likedo jobs`: jobs listed, shown, cancelled and retried."""

from typing import TYPE_CHECKING, Any

import click

from cli.terminal import logs
from cli.terminal.arguments import WholeNumber
from cli.terminal.output import json_option, show, show_all
from models.errors import InvalidRequest, JobAlreadyFinished, JobCancelled, NotFound, Unavailable

if TYPE_CHECKING:
    from billing.pricing import Quote
    from jobs.kinds.kind import Kind
    from models.job import Job

#: The values of `models.job.Status` and the keys of `jobs.kinds.KINDS`, repeated so that help need
#: not load these modules.
STATUSES = ("queued", "in_progress", "completed", "failed", "cancelled", "expired")
KIND_NAMES = ("chat", "image", "batch")

CANCELLED = JobCancelled("The job was cancelled.")


@click.group()
def command() -> None:
    """List, show, cancel and retry jobs."""
    logs.to_standard_error()


@command.command("list")
@click.option("--account", help="Only the jobs of this account.")
@click.option("--status", type=click.Choice(STATUSES))
@click.option("--kind", type=click.Choice(KIND_NAMES))
@click.option("--limit", default=50, show_default=True, type=WholeNumber(1, 10_000))
@json_option
def list_(
    account: str | None, status: str | None, kind: str | None, limit: int, as_json: bool
) -> None:
    """List jobs, newest first, without their results."""
    from access import listings
    from jobs.lifecycle import listing, view

    account_id = listings.account(account).id if account is not None else None
    names = {row.id: row.name for row in listings.accounts()}
    jobs = [
        {"account": names.get(row.account_id)} | view.as_json(row)
        for row in listing.newest(limit, account_id, status, kind)
    ]
    columns = ("id", "account", "kind", "status", "model", "provider", "attempts", "created")
    show_all(jobs, (*columns, "credits_held", "credits_consumed"), as_json)


@command.command("show")
@click.argument("job_id", metavar="ID")
@json_option
def show_(job_id: str, as_json: bool) -> None:
    """Show one job; with --json, also its result."""
    from jobs.lifecycle import view

    row = _get_one(job_id)
    show(_with_result(row) if as_json else view.as_json(row), as_json)


def _with_result(row: "Job") -> dict[str, Any]:
    import orjson

    from config.settings import settings
    from jobs.lifecycle import view

    address = settings.public_url or f"http://127.0.0.1:{settings.port}"
    job: dict[str, Any] = orjson.loads(b"".join(view.with_result(row, address)))
    return job


@command.command()
@click.argument("job_id", metavar="ID")
def cancel(job_id: str) -> None:
    """Cancel a job: a queued one at once, a running one within seconds."""
    click.echo(_cancel(_get_one(job_id)))


def _cancel(row: "Job") -> str:
    """Cancel a job and return a sentence about the outcome."""
    from cli.local import instance
    from jobs.lifecycle import cancel
    from models.job import FINAL, Status

    if row.status == Status.CANCELLED:
        return f"Job {row.id} was cancelled before."
    instance.use_its_redis()
    match cancel.cancel(row.id, CANCELLED) if row.status not in FINAL else row.status:
        case Status.CANCELLED:
            return f"Job {row.id} is cancelled, free of charge."
        case Status.IN_PROGRESS:
            return f"Job {row.id} is running; its worker ends it within seconds."
        case status:
            raise JobAlreadyFinished(f"Job {row.id} has ended already: it is {status}.")


@command.command()
@click.argument("job_id", metavar="ID")
@json_option
def retry(job_id: str, as_json: bool) -> None:
    """Run the request of a failed asynchronous job again, as a new job.

    The request is kept for 24 hours, or for a batch line until its batch is over. The account is
    charged for the new job only, which does not belong to the batch.
    """
    from cli.local import instance

    row = _get_one(job_id)
    instance.use_its_redis()
    new_id = _retry(row)
    if as_json:
        show({"id": new_id, "retries": row.id}, as_json)
    else:
        click.echo(f"Job {new_id} is in the queue, in place of {row.id}.")


def _retry(row: "Job") -> str:
    from jobs.kinds import KINDS
    from jobs.lifecycle import bodies
    from models.job import FINAL, Status

    if row.status not in FINAL:
        raise InvalidRequest(f"Job {row.id} has not ended yet: it is {row.status}.")
    body = bodies.load(row.id, row.body_at) if row.status == Status.FAILED else None
    if body is None:
        raise InvalidRequest(
            f"The request of job {row.id} is not kept: that of a failed asynchronous job is, of up "
            "to 64 KiB, for 24 hours, and that of a batch's line until its batch is over."
        )
    kind = KINDS[row.kind]
    request = kind.from_validated(bodies.decoded(body))
    return _submit_again(row, kind, request, kind.quote(request), body)


def _submit_again(row: "Job", kind: "Kind[Any]", request: Any, quote: "Quote", body: bytes) -> str:
    """Hold credits for a new job that repeats a failed one, and enqueue it; return its id."""
    from billing.holds import Hold
    from jobs.lifecycle import bodies, new
    from models.job import FINAL

    job = new.row(
        kind,
        request,
        quote,
        account_id=row.account_id,
        key_id=row.key_id,
        body_bytes=len(body),
        # The body of a batch line is in its batch's file, which may be deleted.
        body_at=bodies.choose_location(body, outlives_redis=True),
        asynchronous=row.asynchronous,
        **{name: getattr(row, name) for name in _COPIED_COLUMNS},
    )
    hold = new.hold(job, body, quote)
    assert isinstance(hold, Hold)  # Without an `Idempotency-Key` there is no existing job.
    try:
        with new.released_on_failure(job):
            new.enqueue(job, body, hold)
    except Unavailable as error:
        if _get_one(job["id"]).status not in FINAL:
            return str(job["id"])  # It reached the queue after all, and a worker has claimed it.
        raise Unavailable(
            f"Job {job['id']} was to be in its place and has ended, free of charge: {error.message}"
        ) from error
    return str(job["id"])


#: Columns that a retry copies from the job whose request it repeats.
_COPIED_COLUMNS = (
    *("fingerprint", "stream", "include_usage", "cancel_on_disconnect"),
    *("webhook_url", "total", "price"),
)


def _get_one(job_id: str) -> "Job":
    from jobs.lifecycle import store

    row = store.find(job_id) if job_id.isprintable() else None
    if row is None:
        raise NotFound(f"There is no job '{job_id}'. `likedo jobs list` shows the newest.")
    return row
