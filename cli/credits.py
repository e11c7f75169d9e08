"""`likedo credits`: balances of accounts, and their ledgers."""

from typing import TYPE_CHECKING, Any

import click

from cli.terminal import arguments
from cli.terminal.arguments import Count, Credits
from cli.terminal.output import json_option, show, show_all

if TYPE_CHECKING:
    from access.listings import AccountRow
    from billing.ledger import EntryRow

account_option = click.option("--account", required=True, help="The account's name.")


@click.group()
def command() -> None:
    """Grant and show credits."""


@command.command(context_settings={"ignore_unknown_options": True})
@account_option
@click.argument("credits", metavar="N", type=Credits)
@click.option("--reason", default="", help="A text for the ledger entry.")
@json_option
def grant(account: str, credits: int, reason: str, as_json: bool) -> None:
    """Add N credits to an account; a negative N takes them away."""
    from access import listings
    from billing import ledger

    reason = arguments.line(reason, "The reason", 500)
    if credits == 0:
        raise click.ClickException("A grant of 0 credits changes nothing: give another number.")
    ledger.grant(listings.account(account).id, credits, reason)
    show(_balance(listings.account(account)), as_json)


@command.command("show")
@account_option
@json_option
def show_(account: str, as_json: bool) -> None:
    """Show an account's balance, the credits that running calls hold, and those left to spend."""
    from access import listings

    show(_balance(listings.account(account)), as_json)


@command.command("ledger")
@account_option
@click.option("--limit", metavar="N", type=Count, help="Only the newest N entries.")
@json_option
def ledger_(account: str, limit: int | None, as_json: bool) -> None:
    """List every movement of an account's credits, oldest first."""
    from access import listings
    from billing import ledger

    columns = ("id", "kind", "credits", "balance_after", "created", "job_id", "reason")
    entries = ledger.entries(listings.account(account).id, limit)
    show_all([as_fields(entry) for entry in entries], columns, as_json)


def as_fields(entry: "EntryRow") -> dict[str, Any]:
    """Return a ledger entry as commands show it, with its job and reason."""
    return {
        "id": entry.id,
        "kind": entry.kind,
        "credits": entry.credits,
        "balance_after": entry.balance_after,
        "created": int(entry.created),
        "job_id": entry.job_id,
        "reason": entry.reason,
    }


def _balance(account: "AccountRow") -> dict[str, Any]:
    return {
        "account": account.name,
        "plan": account.plan,
        "balance": account.balance,
        "held": account.held,
        "available": account.balance - account.held,
    }
