"""Arguments of commands: numbers, names, dates, plans. Errors are full sentences."""

import datetime
from typing import Any

import click

#: More than any account buys, and small enough that sums fit into 64 bits.
MAX_CREDITS = 10**15


class WholeNumber(click.IntRange):
    """A whole number within a range. An unknown option such as `--x` is reported as one."""

    name = "whole number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, str) and value.startswith("--"):
            raise click.NoSuchOption(value, ctx=ctx)
        return super().convert(value, param, ctx)


Credits = WholeNumber(-MAX_CREDITS, MAX_CREDITS)
#: What a key may use; 0 would be a key of no use.
Limit = WholeNumber(1, MAX_CREDITS)
Id = WholeNumber(1, 2**31 - 1)
#: A number of rows, up to the maximum of a `LIMIT` in SQL.
Count = WholeNumber(1, 2**31 - 1)


def name(text: str) -> str:
    """Return `text` as an account's name; raise `click.ClickException` if it cannot be one."""
    if not text.strip():
        raise click.ClickException("The name of an account cannot be empty.")
    return line(text, "The name of an account", 200)


def line(text: str, what: str, max_length: int) -> str:
    """Return `text` stripped; it must be one printable line of up to `max_length` characters.

    The error message calls it `what`.
    """
    text = text.strip()
    if not text.isprintable():
        raise click.ClickException(f"{what} cannot hold control or undecodable characters.")
    if len(text) > max_length:
        raise click.ClickException(f"{what} cannot be longer than {max_length} characters.")
    return text


def plan(text: str) -> str:
    """Return `text` as the name of a plan of the catalogue."""
    from config.catalog.load import catalog  # Most commands need no catalogue.

    if text not in catalog.plans:
        plans = ", ".join(catalog.plans)
        raise click.ClickException(f"There is no plan '{text}'. The plans are: {plans}.")
    return text


def models(text: str) -> list[str]:
    """Return comma-separated ids of models that callers can name."""
    from config.catalog.load import catalog

    ids = _parts(text, "models")
    for model_id in ids:
        if catalog.find(model_id) is None and model_id not in catalog.images:
            raise click.ClickException(
                f"There is no model '{model_id}'. `likedo models list` shows those there are."
            )
    return ids


def networks(text: str) -> list[str]:
    """Return comma-separated addresses and CIDRs."""
    from config import networks

    try:
        return [str(networks.read(part)[0]) for part in _parts(text, "addresses")]
    except ValueError as error:
        raise click.ClickException(f"{error}.") from None


def _parts(text: str, what: str) -> list[str]:
    parts = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not parts:
        raise click.ClickException(f"Name at least one of the {what}, or leave the option out.")
    return parts


def date(text: str) -> float:
    """Return an ISO 8601 date or time as Unix seconds; UTC if it names no zone."""
    try:
        moment = datetime.datetime.fromisoformat(text.strip())
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=datetime.UTC)
        return moment.timestamp()
    except (ValueError, OverflowError):
        raise click.ClickException(
            f"'{text}' is no date: write one like 2027-01-31 or 2027-01-31T18:00+01:00."
        ) from None
