"""`likedo media`: the images that are kept."""

from contextlib import suppress
from typing import Any

import click
from sqlalchemy import Row

from access import accounts
from cli.terminal.arguments import WholeNumber
from cli.terminal.output import json_option, show, show_all
from models.errors import Unavailable
from storage import media

account_option = click.option("--account", help="Only the images of this account.")


@click.group()
def command() -> None:
    """List and delete the images that are kept."""


@command.command("list")
@account_option
@click.option("--limit", default=50, show_default=True, type=WholeNumber(1, 10_000))
@json_option
def list_(account: str | None, limit: int, as_json: bool) -> None:
    """List images, the newest first."""
    account_id = _id_of(account)
    names = {row.id: row.name for row in accounts.listing()}
    found = [
        {"name": row.name, "account": names.get(row.account_id)} | _as_facts(row)
        for row in media.listing(limit, account_id)
    ]
    columns = ("name", "account", "job", "size", "bytes", "stored", "created", "expires")
    show_all(found, (*columns, "address"), as_json)


@command.command("usage")
@account_option
@json_option
def usage_(account: str | None, as_json: bool) -> None:
    """Show how many images there are, and the bytes they take."""
    total = media.usage(_id_of(account))
    oldest = None if total.oldest is None else int(total.oldest)
    show({"images": total.images, "bytes": int(total.bytes), "oldest": oldest}, as_json)


@command.command()
@click.option(
    "--older-than",
    metavar="DAYS",
    type=WholeNumber(0, 36_500),
    help="Those made before, too.",
)
@account_option
@click.option("--dry-run", is_flag=True, help="Only say what would be deleted.")
@json_option
def prune(older_than: int | None, account: str | None, dry_run: bool, as_json: bool) -> None:
    """Delete the images whose time is up, as workers do, and those older than DAYS.

    Their addresses lead nowhere afterwards.
    """
    condition = media.expired() if older_than is None else media.older_than(older_than)
    done = {"images": 0, "bytes": 0, "failed": 0}
    for batch in media.pages(condition, _id_of(account)):
        gone = {row.name for row in batch} if dry_run else set(_forget(batch))
        done["images"] += len(gone)
        done["bytes"] += sum(row.bytes for row in batch if row.name in gone)
        done["failed"] += len(batch) - len(gone)
    _tell(done, dry_run, as_json)


def _forget(batch: list[Row[Any]]) -> list[str]:
    return media.forget(row.name for row in batch)


def _tell(done: dict[str, int], dry_run: bool, as_json: bool) -> None:
    """Print what was done, and fail where not all of it could be."""
    if as_json:
        show(done | {"dry_run": dry_run}, as_json)
    else:
        verb = "Would delete" if dry_run else "Deleted"
        click.echo(f"{verb} {done['images']} images of {done['bytes']} bytes.")
    if failed := done["failed"]:
        raise click.ClickException(
            f"{failed} images could not be deleted, since the storage does not answer for them: "
            "check the storage, and try again."
        )


def _id_of(account: str | None) -> int | None:
    return None if account is None else int(accounts.get_one(account).id)


def _as_facts(row: Row[Any]) -> dict[str, Any]:
    """Return an image as commands show it; times are Unix seconds."""
    return {
        "job": row.job_id,
        "size": f"{row.width}x{row.height}",
        "bytes": row.bytes,
        "stored": bool(row.is_stored),
        "created": int(row.created),
        "expires": int(row.expires),
        "address": _address(row.name),
    }


def _address(name: str) -> str | None:
    """Return an image's address; None where nobody can sign a link to it just now."""
    with suppress(Unavailable):
        return media.address(name)
    return None
