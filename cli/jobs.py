"""`likedo jobs`: the work there is and was."""

from typing import Any

import click
import orjson

from access import accounts
from billing.holds import Hold
from billing.pricing import Quote
from cli.local import instance
from cli.terminal.arguments import WholeNumber
from cli.terminal.output import json_option, show, show_all
from config.settings import settings
from jobs.kinds import KINDS
from jobs.kinds.kind import Kind
from jobs.lifecycle import bodies, new, store, view
from jobs.lifecycle import cancel as job_cancel
from jobs.lifecycle.view import with_result
from models.errors import InvalidRequest, JobAlreadyFinished, JobCancelled, NotFound, Unavailable
from models.job import FINAL, Job, Status

CANCELLED = JobCancelled("The job was cancelled.")


@click.group()
def command() -> None:
    """List, show, cancel and retry jobs."""


@command.command("list")
@click.option("--account", help="Only the jobs of this account.")
@click.option("--status", type=click.Choice([*map(str, Status)]))
@click.option("--kind", type=click.Choice(list(KINDS)))
@click.option("--limit", default=50, show_default=True, type=WholeNumber(1, 10_000))
@json_option
def list_(
    account: str | None, status: str | None, kind: str | None, limit: int, as_json: bool
) -> None:
    """List jobs, the newest first, without their results."""
    account_id = accounts.get_one(account).id if account is not None else None
    names = {row.id: row.name for row in accounts.listing()}
    found = [
        {"account": names.get(row.account_id)} | view.as_json(row)
        for row in store.listing(limit, account_id, status, kind)
    ]
    columns = ("id", "account", "kind", "status", "model", "provider", "attempts", "created")
    show_all(found, (*columns, "credits_held", "credits_consumed"), as_json)


@command.command("show")
@click.argument("job_id", metavar="ID")
@json_option
def show_(job_id: str, as_json: bool) -> None:
    """Show one job; with --json its result too."""
    row = _get_one(job_id)
    show(_whole(row) if as_json else view.as_json(row), as_json)


def _whole(row: Job) -> dict[str, Any]:
    address = settings.public_url or f"http://127.0.0.1:{settings.port}"
    found: dict[str, Any] = orjson.loads(b"".join(with_result(row, address)))
    return found


@command.command()
@click.argument("job_id", metavar="ID")
def cancel(job_id: str) -> None:
    """Cancel a job: at once where it is queued, within seconds where it runs."""
    click.echo(_cancel(_get_one(job_id)))


def _cancel(row: Job) -> str:
    """Cancel a job and say what came of it."""
    if row.status == Status.CANCELLED:
        return f"Job {row.id} was cancelled before."
    instance.use_its_redis()
    match job_cancel.cancel(row.id, CANCELLED) if row.status not in FINAL else row.status:
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
    """Put a failed asynchronous job's request in the queue again, as a new job.

    Its request is kept for 24 hours; that of a batch's line, until its batch is over. The account
    is charged for the new job alone, which is no line of the batch.
    """
    row = _get_one(job_id)
    instance.use_its_redis()
    new = _retry(row)
    shown = {"id": new, "retries": row.id}
    if as_json:
        show(shown, as_json)
    else:
        click.echo(f"Job {new} is in the queue, in place of {row.id}.")


def _retry(row: Job) -> str:
    if row.status not in FINAL:
        raise InvalidRequest(f"Job {row.id} has not ended yet: it is {row.status}.")
    body = bodies.load(row.id, row.body_at) if row.status == Status.FAILED else None
    if body is None:
        raise InvalidRequest(
            f"The request of job {row.id} is not kept: that of a failed asynchronous job is, of up "
            "to 64 KiB, for 24 hours, and that of a batch's line until its batch is over."
        )
    kind = KINDS[row.kind]
    request = kind.checked(orjson.loads(body))
    return _submit_again(row, kind, request, kind.quote(request), body)


def _submit_again(row: Job, kind: Kind[Any], request: Any, quote: Quote, body: bytes) -> str:
    """Hold for a new job in place of a failed one, and put it in the queue; return its id."""
    job = new.row(
        kind,
        request,
        quote,
        account_id=row.account_id,
        key_id=row.key_id,
        body_bytes=len(body),
        # The body of a batch line is in its batch's file, which may go.
        body_at=bodies.choose_location(body, outlives_redis=True),
        asynchronous=row.asynchronous,
        **{name: getattr(row, name) for name in _KEPT},
    )
    held = new.hold(job, body, quote)
    assert isinstance(held, Hold)  # Without an `Idempotency-Key` there is no other job.
    try:
        with new.released_on_failure(job):
            new.enqueue(job, body, held)
    except Unavailable as error:
        if _get_one(job["id"]).status not in FINAL:
            return str(job["id"])  # It had reached the queue all the same, and a worker has it.
        raise Unavailable(
            f"Job {job['id']} was to be in its place and has ended, free of charge: {error.message}"
        ) from error
    return str(job["id"])


#: Columns that a new job has from the one whose request it repeats.
_KEPT = (
    *("fingerprint", "stream", "include_usage", "cancel_on_disconnect"),
    *("webhook_url", "total", "price"),
)


def _get_one(job_id: str) -> Job:
    row = store.find(job_id) if job_id.isprintable() else None
    if row is None:
        raise NotFound(f"There is no job '{job_id}'. `likedo jobs list` shows the newest.")
    return row
