"""`likedo webhooks`: the messages about finished jobs, delivered or not."""

from typing import TYPE_CHECKING, Any

import click

from cli.terminal import logs
from cli.terminal.arguments import WholeNumber
from cli.terminal.output import json_option, show_all
from models.errors import NotFound

if TYPE_CHECKING:
    from models.webhook import Webhook


@click.group()
def command() -> None:
    """List webhooks and send them again."""
    logs.to_standard_error()


@command.command("list")
@click.option("--account", help="Only those of this account.")
@click.option("--job", metavar="ID", help="Only those of this job.")
@click.option("--failed", is_flag=True, help="Only those whose last try failed.")
@click.option("--limit", default=50, show_default=True, type=WholeNumber(1, 10_000))
@json_option
def list_(account: str | None, job: str | None, failed: bool, limit: int, as_json: bool) -> None:
    """List webhooks, newest first."""
    from access import listings
    from jobs.lifecycle import store
    from jobs.webhook import outbox

    account_id = listings.account(account).id if account is not None else None
    if job is not None and store.find(job) is None:
        raise NotFound(f"There is no job '{job}'. `likedo jobs list` shows the newest.")
    names = {row.id: row.name for row in listings.accounts()}
    webhooks = [
        {"id": row.id, "account": names.get(row.account_id)} | _as_fields(row)
        for row in outbox.listing(limit, account_id, job, failed)
    ]
    columns = ("id", "account", "job", "type", "status", "tries", "created", "next_at", "url")
    show_all(webhooks, (*columns, "last_error"), as_json)


def _as_fields(webhook: "Webhook") -> dict[str, Any]:
    """Return a webhook as commands show it; times are Unix seconds."""
    return {
        "job": webhook.job_id,
        "type": webhook.type,
        "status": _status(webhook),
        "tries": webhook.tries,
        "created": int(webhook.created),
        "next_at": _seconds(webhook.next_at),
        "delivered_at": _seconds(webhook.delivered_at),
        "gave_up_at": _seconds(webhook.gave_up_at),
        "url": webhook.url,
        "last_error": webhook.last_error,
    }


def _status(webhook: "Webhook") -> str:
    if webhook.next_at is not None:
        return "waiting"
    return "delivered" if webhook.delivered_at is not None else "given_up"


def _seconds(at: float | None) -> int | None:
    return None if at is None else int(at)


@command.command()
@click.argument("webhook_id", metavar="ID")
def redeliver(webhook_id: str) -> None:
    """Send a webhook again, at once, even if it was delivered or given up.

    It keeps its id, by which the receiver recognizes it, and is tried for another day.
    """
    from jobs.webhook import outbox

    if not webhook_id.isprintable() or not outbox.redeliver(webhook_id):
        raise NotFound(
            f"There is no webhook '{webhook_id}'. `likedo webhooks list` shows the newest."
        )
    click.echo(
        f"Webhook {webhook_id} will be sent again within seconds, by the next worker that polls."
    )
