"""`likedo keys`: what speaks for an account."""

import time
from typing import Any

import click
from sqlalchemy import Row

from access import accounts, keys
from cli.local import instance
from cli.terminal import arguments
from cli.terminal.arguments import Id
from cli.terminal.output import json_option, show, show_all


@click.group()
def command() -> None:
    """Make, list and revoke API keys."""


@command.command()
@click.option("--account", required=True, help="The name of the account it speaks for.")
@click.option("--name", default="", help="What to remember it by.")
@click.option("--expires", metavar="DATE", help="2027-01-31 or 2027-01-31T18:00+01:00.")
@json_option
def create(account: str, name: str, expires: str | None, as_json: bool) -> None:
    """Make a key. It is shown now and never again.

    A key that expires on a day is refused from the first moment of that day, UTC.
    """
    name = arguments.line(name, "The name of a key", 200)
    expires_at = arguments.date(expires) if expires is not None else None
    key_id, key = keys.create(accounts.get_one(account).id, name, expires_at)
    show({"key": key, "id": key_id, "account": account, "expires_at": _whole(expires_at)}, as_json)
    if expires_at is not None and expires_at <= time.time():
        click.echo("This key has expired already: that date is past.", err=True)
    if not as_json:
        click.echo("Keep it now: only its hash is stored, and it is not shown again.", err=True)


@command.command("list")
@click.option("--account", help="Only the keys of this account.")
@json_option
def list_(account: str | None, as_json: bool) -> None:
    """List keys, the oldest first; of each only the last four characters are known."""
    account_id = accounts.get_one(account).id if account is not None else None
    columns = ("id", "account", "name", "hint", "created", "expires_at", "revoked_at")
    show_all([as_facts(row) for row in keys.listing(account_id)], columns, as_json)


@command.command()
@click.argument("key_id", metavar="ID", type=Id)
def revoke(key_id: int) -> None:
    """End a key, from now on."""
    instance.use_its_redis()
    keys.revoke(key_id)
    click.echo(f"Key {key_id} is refused from now on.")


def as_facts(row: Row[Any]) -> dict[str, Any]:
    """Return a key as commands show it; times are Unix seconds."""
    return {
        "id": row.id,
        "account": row.account,
        "name": row.name,
        "hint": row.hint,
        "created": int(row.created),
        "expires_at": _whole(row.expires_at),
        "revoked_at": _whole(row.revoked_at),
    }


def _whole(at: float | None) -> int | None:
    return None if at is None else int(at)
