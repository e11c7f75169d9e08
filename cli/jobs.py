"""`likedo jobs`: the work there is and was."""

from typing import Any

import click
import orjson
from sqlalchemy import Row

from access import accounts
from api.jobs import whole
from cli import instance
from cli.output import json_option, show, show_all
from config.settings import settings
from jobs import cancelling, rows
from jobs.shown import as_json as job_as_json
from models import errors
from models.job import FINAL, Status

CANCELLED = errors.JobCancelled("The job was cancelled.")


@click.group()
def command() -> None:
    """List, show and cancel jobs."""


@command.command("list")
@click.option("--account", help="Only the jobs of this account.")
@click.option("--status", type=click.Choice([*map(str, Status)]))
@click.option("--kind", type=click.Choice(["chat", "image", "batch"]))
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 10_000))
@json_option
def list_(
    account: str | None, status: str | None, kind: str | None, limit: int, as_json: bool
) -> None:
    """List jobs, the newest first, without their results."""
    account_id = accounts.get_one(account).id if account is not None else None
    names = {row.id: row.name for row in accounts.listing()}
    found = [
        {"account": names.get(row.account_id)} | job_as_json(row)
        for row in rows.listing(limit, account_id, status, kind)
    ]
    columns = ("id", "account", "kind", "status", "model", "provider", "attempts", "created")
    show_all(found, (*columns, "credits_held", "credits_consumed"), as_json)


@command.command("show")
@click.argument("job_id", metavar="ID")
@json_option
def show_(job_id: str, as_json: bool) -> None:
    """Show one job; with --json its result too."""
    row = _get_one(job_id)
    show(_whole(row) if as_json else job_as_json(row), as_json)


def _whole(row: Row[Any]) -> dict[str, Any]:
    address = settings.public_url or f"http://127.0.0.1:{settings.port}"
    found: dict[str, Any] = orjson.loads(b"".join(whole(row, address)))
    return found


@command.command()
@click.argument("job_id", metavar="ID")
def cancel(job_id: str) -> None:
    """Cancel a job: at once where it is queued, within seconds where it runs."""
    click.echo(_cancel(_get_one(job_id)))


def _cancel(row: Row[Any]) -> str:
    """Cancel a job and say what came of it."""
    if row.status == Status.CANCELLED:
        return f"Job {row.id} was cancelled before."
    instance.use_its_redis()
    match cancelling.cancel(row.id, CANCELLED) if row.status not in FINAL else row.status:
        case Status.CANCELLED:
            return f"Job {row.id} is cancelled, free of charge."
        case Status.IN_PROGRESS:
            return f"Job {row.id} is running; its worker ends it within seconds."
        case status:
            raise errors.JobAlreadyFinished(f"Job {row.id} has ended already: it is {status}.")


def _get_one(job_id: str) -> Row[Any]:
    row = rows.find(job_id) if job_id.isprintable() else None
    if row is None:
        raise errors.NotFound(f"There is no job '{job_id}'. `likedo jobs list` shows the newest.")
    return row
