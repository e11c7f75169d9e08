"""`likedo media`: the images in storage, listed and pruned."""

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from cli.terminal import logs
from cli.terminal.arguments import WholeNumber
from cli.terminal.output import json_option, show, show_all
from models.errors import Unavailable

if TYPE_CHECKING:
    from models.media import Media

account_option = click.option("--account", help="Only the images of this account.")


@click.group()
def command() -> None:
    """List and delete stored images."""
    logs.to_standard_error()


@command.command("list")
@account_option
@click.option("--limit", default=50, show_default=True, type=WholeNumber(1, 10_000))
@json_option
def list_(account: str | None, limit: int, as_json: bool) -> None:
    """List images, newest first."""
    from access import listings
    from storage import media

    account_id = _id_of(account)
    names = {row.id: row.name for row in listings.accounts()}
    images = [
        {"name": row.name, "account": names.get(row.account_id)} | _as_fields(row)
        for row in media.listing(limit, account_id)
    ]
    columns = ("name", "account", "job", "size", "bytes", "stored", "created", "expires")
    show_all(images, (*columns, "address"), as_json)


@command.command("usage")
@account_option
@json_option
def usage_(account: str | None, as_json: bool) -> None:
    """Show the number of images, and their total size in bytes."""
    from storage import media

    total = media.usage(_id_of(account))
    oldest = None if total.oldest is None else int(total.oldest)
    show({"images": total.images, "bytes": int(total.bytes), "oldest": oldest}, as_json)


@command.command()
@click.option(
    "--older-than",
    metavar="DAYS",
    type=WholeNumber(0, 36_500),
    help="Also delete those older than this.",
)
@account_option
@click.option("--dry-run", is_flag=True, help="Only report what would be deleted.")
@json_option
def prune(older_than: int | None, account: str | None, dry_run: bool, as_json: bool) -> None:
    """Delete expired images, as workers do, and those older than DAYS.

    Their links stop working.
    """
    from storage import media

    condition = media.expired() if older_than is None else media.older_than(older_than)
    counts = {"images": 0, "bytes": 0, "failed": 0}
    for page in media.pages(condition, _id_of(account)):
        names = [row.name for row in page]
        deleted = set(names if dry_run else media.forget(names))
        counts["images"] += len(deleted)
        counts["bytes"] += sum(row.bytes for row in page if row.name in deleted)
        counts["failed"] += len(page) - len(deleted)
    _report(counts, dry_run, as_json)


def _report(counts: dict[str, int], dry_run: bool, as_json: bool) -> None:
    """Print what was deleted; raise if some images could not be deleted."""
    if as_json:
        show(counts | {"dry_run": dry_run}, as_json)
    else:
        verb = "Would delete" if dry_run else "Deleted"
        click.echo(f"{verb} {counts['images']} images of {counts['bytes']} bytes.")
    if failed := counts["failed"]:
        raise click.ClickException(
            f"{failed} images could not be deleted, since the storage did not answer: check the "
            "storage, and try again."
        )


def _id_of(account: str | None) -> int | None:
    from access import listings

    return None if account is None else listings.account(account).id


def _as_fields(image: "Media") -> dict[str, Any]:
    """Return an image as commands show it; times are Unix seconds."""
    return {
        "job": image.job_id,
        "size": f"{image.width}x{image.height}",
        "bytes": image.bytes,
        "stored": bool(image.is_stored),
        "created": int(image.created),
        "expires": int(image.expires),
        "address": _address(image.name),
    }


def _address(name: str) -> str | None:
    """Return the link to an image; None if the storage cannot sign one now."""
    from storage import media

    with suppress(Unavailable):
        return media.address(name)
    return None
