"""What people type: names, dates, plans; each refused with a sentence where it will not do."""

import datetime
from typing import Any

import click

from config.catalog.load import catalog

#: More credits than anybody buys, and few enough to add up in 64 bits.
MAX_CREDITS = 10**15


class WholeNumber(click.IntRange):
    """A whole number between two others, which may stand where a command takes `-5` for it."""

    name = "whole number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, str) and value.startswith("--"):
            raise click.NoSuchOption(value, ctx=ctx)
        return super().convert(value, param, ctx)


Credits = WholeNumber(-MAX_CREDITS, MAX_CREDITS)
Id = WholeNumber(1, 2**31 - 1)
#: As many rows as a database can be asked for.
Count = WholeNumber(1, 2**31 - 1)


def name(text: str) -> str:
    """Return `text` as an account's name."""
    if not text.strip():
        raise click.ClickException("The name of an account cannot be empty.")
    return line(text, "The name of an account", 200)


def line(text: str, what: str, most: int) -> str:
    """Return `text` without the space around it; it has to be one line that can be shown."""
    text = text.strip()
    if not text.isprintable():
        raise click.ClickException(f"{what} cannot hold control or undecodable characters.")
    if len(text) > most:
        raise click.ClickException(f"{what} cannot be longer than {most} characters.")
    return text


def plan(text: str) -> str:
    """Return `text` as the name of a plan of the catalogue."""
    if text not in catalog.plans:
        plans = ", ".join(catalog.plans)
        raise click.ClickException(f"There is no plan '{text}'. The plans are: {plans}.")
    return text


def date(text: str) -> float:
    """Return a day or a moment in ISO 8601 as Unix seconds; UTC where it names no zone."""
    try:
        moment = datetime.datetime.fromisoformat(text.strip())
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=datetime.UTC)
        return moment.timestamp()
    except (ValueError, OverflowError):
        raise click.ClickException(
            f"'{text}' is no date: write one like 2027-01-31 or 2027-01-31T18:00+01:00."
        ) from None
