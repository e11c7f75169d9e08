"""`likedo credits`: what accounts have, and how they came to have it."""

from typing import Any

import click
from sqlalchemy import Row

from access import accounts
from billing import ledger
from cli.terminal import arguments
from cli.terminal.arguments import Count, Credits
from cli.terminal.output import json_option, show, show_all

account_option = click.option("--account", required=True, help="The account's name.")


@click.group()
def command() -> None:
    """Grant and show credits."""


@command.command(context_settings={"ignore_unknown_options": True})
@account_option
@click.argument("credits", metavar="N", type=Credits)
@click.option("--reason", default="", help="What the ledger says beside it.")
@json_option
def grant(account: str, credits: int, reason: str, as_json: bool) -> None:
    """Add N credits to an account; a negative N takes them."""
    reason = arguments.line(reason, "The reason", 500)
    if credits == 0:
        raise click.ClickException("A grant of 0 credits changes nothing: give another number.")
    ledger.grant(accounts.get_one(account).id, credits, reason)
    show(_standing(accounts.get_one(account)), as_json)


@command.command("show")
@account_option
@json_option
def show_(account: str, as_json: bool) -> None:
    """Show an account's balance, what running calls hold of it, and what is left to spend."""
    show(_standing(accounts.get_one(account)), as_json)


@command.command("ledger")
@account_option
@click.option("--limit", metavar="N", type=Count, help="Only the newest N entries.")
@json_option
def ledger_(account: str, limit: int | None, as_json: bool) -> None:
    """List every movement of an account's credits, the oldest first."""
    columns = ("id", "kind", "credits", "balance_after", "created", "job_id", "reason")
    entries = ledger.entries(accounts.get_one(account).id, limit)
    show_all([as_facts(row) for row in entries], columns, as_json)


def as_facts(row: Row[Any]) -> dict[str, Any]:
    """Return a ledger entry as it is shown everywhere, with its job and reason."""
    return {
        "id": row.id,
        "kind": row.kind,
        "credits": row.credits,
        "balance_after": row.balance_after,
        "created": int(row.created),
        "job_id": row.job_id,
        "reason": row.reason,
    }


def _standing(row: Row[Any]) -> dict[str, Any]:
    return {
        "account": row.name,
        "plan": row.plan,
        "balance": row.balance,
        "held": row.held,
        "available": row.balance - row.held,
    }
