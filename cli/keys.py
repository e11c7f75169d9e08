"""`likedo keys`: the API keys of accounts."""

import time
from typing import TYPE_CHECKING, Any

import click
import orjson

from cli.terminal import arguments
from cli.terminal.arguments import Count, Id, Limit
from cli.terminal.output import json_option, show, show_all

if TYPE_CHECKING:
    from access.keys import Limits
    from access.listings import KeyRow


@click.group()
def command() -> None:
    """Create, list and revoke API keys."""


@command.command()
@click.option("--account", required=True, help="The name of the account that it authenticates.")
@click.option("--name", default="", help="A name for listings.")
@click.option("--expires", metavar="DATE", help="2027-01-31 or 2027-01-31T18:00+01:00.")
@click.option("--models", metavar="A,B", help="Only these models, also as fallbacks.")
@click.option("--addresses", metavar="CIDR,…", help="Only from these addresses: 203.0.113.0/24.")
@click.option("--requests-per-hour", type=Count, metavar="N", help="Within the account's own.")
@click.option("--limit", type=Limit, metavar="N", help="The credits that it may spend in all.")
@click.option("--daily-limit", type=Limit, metavar="N", help="And on each day, UTC.")
@json_option
def create(
    account: str,
    name: str,
    expires: str | None,
    models: str | None,
    addresses: str | None,
    requests_per_hour: int | None,
    limit: int | None,
    daily_limit: int | None,
    as_json: bool,
) -> None:
    """Create a key. It is shown now and never again.

    A key that expires on a day is refused from the first moment of that day, UTC.
    """
    from access import keys, listings

    name = arguments.line(name, "The name of a key", 200)
    limits = keys.Limits(
        expires_at=arguments.date(expires) if expires is not None else None,
        models=arguments.models(models) if models is not None else None,
        addresses=arguments.networks(addresses) if addresses is not None else None,
        requests_per_hour=requests_per_hour,
        credit_limit=limit,
        daily_limit=daily_limit,
    )
    key_id, key = keys.create(listings.account(account).id, name, limits)
    show({"key": key, "id": key_id, "account": account, **_limit_fields(limits)}, as_json)
    if limits.expires_at is not None and limits.expires_at <= time.time():
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
    columns = (
        *("id", "account", "name", "hint", "created", "expires_at", "revoked_at"),
        *("models", "addresses", "requests_per_hour"),
        *("limit", "spent", "daily_limit", "spent_today"),
    )
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
        "models": _list(key.models),
        "addresses": _list(key.addresses),
        "requests_per_hour": key.requests_per_hour,
        **_spending(key),
    }


def _spending(key: "KeyRow") -> dict[str, int | None]:
    """Return a key's limits in credits, and what counts towards them; None if it has none."""
    is_counted = key.credit_limit is not None or key.daily_limit is not None
    is_today = key.spent_day == time.time() // 86_400
    return {
        "limit": key.credit_limit,
        "spent": key.spent if is_counted else None,
        "daily_limit": key.daily_limit,
        "spent_today": (key.spent_on_day if is_today else 0) if is_counted else None,
    }


def _limit_fields(limits: "Limits") -> dict[str, Any]:
    return {
        "expires_at": _seconds(limits.expires_at),
        "models": limits.models,
        "addresses": limits.addresses,
        "requests_per_hour": limits.requests_per_hour,
        "limit": limits.credit_limit,
        "daily_limit": limits.daily_limit,
    }


def _list(column: str | None) -> list[str] | None:
    return None if column is None else list(orjson.loads(column))


def _seconds(at: float | None) -> int | None:
    return None if at is None else int(at)
