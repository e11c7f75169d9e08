"""`likedo keys`: the API keys of accounts."""

import time
from typing import TYPE_CHECKING, Any

import click

from cli.terminal import arguments
from cli.terminal.arguments import Id
from cli.terminal.output import json_option, show, show_all

if TYPE_CHECKING:
    from access.listings import KeyRow


@click.group()
def command() -> None:
    """Create, list and revoke API keys."""


@command.command()
@click.option("--account", required=True, help="The name of the account that it authenticates.")
@click.option("--name", default="", help="A name for listings.")
@click.option("--expires", metavar="DATE", help="2027-01-31 or 2027-01-31T18:00+01:00.")
@json_option
def create(account: str, name: str, expires: str | None, as_json: bool) -> None:
    """Create a key. It is shown now and never again.

    A key that expires on a day is refused from the first moment of that day, UTC.
    """
    from access import keys, listings

    name = arguments.line(name, "The name of a key", 200)
    expires_at = arguments.date(expires) if expires is not None else None
    key_id, key = keys.create(listings.account(account).id, name, expires_at)
    fields = {"key": key, "id": key_id, "account": account, "expires_at": _seconds(expires_at)}
    show(fields, as_json)
    if expires_at is not None and expires_at <= time.time():
        click.echo("This key has expired already: that date is past.", err=True)
    if not as_json:
        click.echo("Keep it now: only its hash is stored, and it is not shown again.", err=True)


@command.command("list")
@click.option("--account", help="Only the keys of this account.")
@json_option
def list_(account: str | None, as_json: bool) -> None:
    """List keys, oldest first, each by its last four characters."""
    from access import listings

    account_id = listings.account(account).id if account is not None else None
    columns = ("id", "account", "name", "hint", "created", "expires_at", "revoked_at")
    show_all([as_fields(row) for row in listings.keys(account_id)], columns, as_json)


@command.command()
@click.argument("key_id", metavar="ID", type=Id)
def revoke(key_id: int) -> None:
    """Refuse a key from now on."""
    from access import keys
    from cli.local import instance

    instance.use_its_redis()
    keys.revoke(key_id)
    click.echo(f"Key {key_id} is refused from now on.")


def as_fields(key: "KeyRow") -> dict[str, Any]:
    """Return a key as commands show it; times are Unix seconds."""
    return {
        "id": key.id,
        "account": key.account,
        "name": key.name,
        "hint": key.hint,
        "created": int(key.created),
        "expires_at": _seconds(key.expires_at),
        "revoked_at": _seconds(key.revoked_at),
    }


def _seconds(at: float | None) -> int | None:
    return None if at is None else int(at)
