"""`likedo accounts`: who pays."""

from typing import Any

import click
from sqlalchemy import Row

from access import accounts
from billing import ledger
from cli.local import instance
from cli.terminal import arguments
from cli.terminal.arguments import WholeNumber
from cli.terminal.output import json_option, show, show_all
from config.catalog.load import catalog


@click.group()
def command() -> None:
    """Make, list and change accounts."""


@command.command()
@click.argument("name")
@click.option("--plan", default="free", show_default=True, help="A plan of the catalogue.")
@click.option("--credits", default=0, type=WholeNumber(0, arguments.MAX_CREDITS))
@json_option
def create(name: str, plan: str, credits: int, as_json: bool) -> None:
    """Make an account, with credits to begin with."""
    name, plan = arguments.name(name), arguments.plan(plan)
    account_id = accounts.create(name, plan)
    if credits:
        ledger.grant(account_id, credits, "To begin with")
    show(as_facts(accounts.get_one(name)), as_json)


@command.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List all accounts, the oldest first."""
    columns = ("id", "name", "plan", "suspended", "balance", "held", "available", "keys")
    rows = accounts.listing()
    show_all([as_facts(row) for row in rows], columns, as_json)
    for row in rows:
        if row.plan not in catalog.plans:
            click.echo(
                f"Warning: the catalogue has no plan '{row.plan}', so calls of '{row.name}' are "
                "refused: likedo accounts set-plan NAME PLAN.",
                err=True,
            )


@command.command("show")
@click.argument("name")
@json_option
def show_(name: str, as_json: bool) -> None:
    """Show one account; with --json what its webhooks are signed with, too."""
    row = accounts.get_one(name)
    # A secret is for programs: nobody's screen needs it.
    secret = {"webhook_secret": accounts.webhook_secret(row.id)} if as_json else {}
    show(as_facts(row) | secret, as_json)


@command.command()
@click.argument("name")
@click.option("--undo", is_flag=True, help="Let the account's keys in again.")
def suspend(name: str, undo: bool) -> None:
    """Refuse all keys of an account, from now on."""
    account = accounts.get_one(name)
    instance.use_its_redis()
    accounts.suspend(account.id, suspended=not undo)
    click.echo(f"The keys of '{name}' are {'let in again' if undo else 'refused from now on'}.")


@command.command("set-plan")
@click.argument("name")
@click.argument("plan")
def set_plan(name: str, plan: str) -> None:
    """Give an account another plan, from now on."""
    plan = arguments.plan(plan)
    account = accounts.get_one(name)
    instance.use_its_redis()
    accounts.set_plan(account.id, plan)
    click.echo(f"'{name}' is on the plan {plan} now.")


def as_facts(row: Row[Any]) -> dict[str, Any]:
    """Return an account as commands show it; credits are whole, times Unix seconds."""
    return {
        "id": row.id,
        "name": row.name,
        "plan": row.plan,
        "suspended": bool(row.suspended),
        "balance": row.balance,
        "held": row.held,
        "available": row.balance - row.held,
        "created": int(row.created),
        "keys": row.key_count,
    }
