"""`likedo accounts`: the accounts that pay for calls."""

from typing import TYPE_CHECKING, Any

import click

from cli.terminal import arguments
from cli.terminal.arguments import WholeNumber
from cli.terminal.output import json_option, show, show_all

if TYPE_CHECKING:
    from access.listings import AccountRow


@click.group()
def command() -> None:
    """Create, list and change accounts."""


@command.command()
@click.argument("name")
@click.option("--plan", default="free", show_default=True, help="A plan of the catalogue.")
@click.option("--credits", default=0, type=WholeNumber(0, arguments.MAX_CREDITS))
@json_option
def create(name: str, plan: str, credits: int, as_json: bool) -> None:
    """Create an account, with initial credits."""
    from access import accounts, listings
    from billing import ledger

    name, plan = arguments.name(name), arguments.plan(plan)
    account_id = accounts.create(name, plan)
    if credits:
        ledger.grant(account_id, credits, "To begin with")
    show(as_fields(listings.account(name)), as_json)


@command.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List all accounts, oldest first."""
    from access import listings
    from config.catalog.load import catalog

    columns = ("id", "name", "plan", "suspended", "balance", "held", "available", "keys")

    rows = listings.accounts()
    show_all([as_fields(row) for row in rows], columns, as_json)
    for row in rows:
        if row.plan not in catalog.plans:
            click.echo(
                f"Warning: the catalogue has no plan '{row.plan}', so calls of '{row.name}' are "
                "refused: use likedo accounts set-plan NAME PLAN.",
                err=True,
            )


@command.command("show")
@click.argument("name")
@json_option
def show_(name: str, as_json: bool) -> None:
    """Show one account; with --json, also the secret that signs its webhooks."""
    from access import accounts, listings

    row = listings.account(name)
    # The secret is for programs; it is never printed on a screen.
    secret = {"webhook_secret": accounts.webhook_secret(row.id)} if as_json else {}
    show(as_fields(row) | secret, as_json)


@command.command()
@click.argument("name")
@click.option("--undo", is_flag=True, help="Accept the account's keys again.")
def suspend(name: str, undo: bool) -> None:
    """Refuse all keys of an account from now on."""
    from access import accounts, listings
    from cli.local import instance

    account = listings.account(name)
    instance.use_its_redis()
    accounts.suspend(account.id, suspended=not undo)
    click.echo(f"The keys of '{name}' are {'accepted again' if undo else 'refused from now on'}.")


@command.command("set-plan")
@click.argument("name")
@click.argument("plan")
def set_plan(name: str, plan: str) -> None:
    """Move an account to another plan, from now on."""
    from access import accounts, listings
    from cli.local import instance

    plan = arguments.plan(plan)
    account = listings.account(name)
    instance.use_its_redis()
    accounts.set_plan(account.id, plan)
    click.echo(f"'{name}' is on the plan {plan} now.")


def as_fields(account: "AccountRow") -> dict[str, Any]:
    """Return an account as commands show it: whole credits, times in Unix seconds."""
    return {
        "id": account.id,
        "name": account.name,
        "plan": account.plan,
        "suspended": account.suspended,
        "balance": account.balance,
        "held": account.held,
        "available": account.balance - account.held,
        "created": int(account.created),
        "keys": account.key_count,
    }
