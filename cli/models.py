"""`likedo models`: the models that callers can name, and a check of the catalogue."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.terminal.output import json_option, show, show_all

if TYPE_CHECKING:
    from config.catalog.lint import Note, Report
    from config.catalog.source import Diagnostic

COLUMNS = ("id", "kind", "owned_by", "providers", "successor", "retires")


@click.group()
def command() -> None:
    """List the models that callers can name, and check the catalogue."""


@command.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the catalogue's models, with the providers that would answer now."""
    # Loads the catalogue in use, which may be invalid, so `check` must not import it.
    from routing import model_view

    show_all(model_view.listing(), COLUMNS, as_json)


@command.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@json_option
def check(file: Path | None, as_json: bool) -> None:
    """Check a catalogue: FILE, or the one in use.

    A mistake that would prevent a start is an error: the exit status is 1. Models that retire soon
    and tables that nothing uses are warnings.
    """
    import datetime

    from config.catalog import lint
    from config.catalog.source import InvalidCatalog
    from config.settings import settings

    path = file or settings.catalog
    try:
        report = lint.check(path, datetime.datetime.now(datetime.UTC).date())
    except InvalidCatalog as error:
        if as_json:
            show(_document(path, errors=error.errors), as_json)
        else:
            click.echo(error.code, err=True)
        raise SystemExit(1) from None
    if as_json:
        show(_document(path, warnings=report.warnings, notes=report.notes), as_json)
    else:
        _report(path, report)


def _document(
    path: Path,
    errors: "Sequence[Diagnostic]" = (),
    warnings: "Sequence[Diagnostic]" = (),
    notes: "Sequence[Note]" = (),
) -> dict[str, Any]:
    return {
        "file": str(path),
        "usable": not errors,
        "errors": [error.as_json() for error in errors],
        "warnings": [warning.as_json() for warning in warnings],
        "notes": [note.as_json() for note in notes],
    }


def _report(path: Path, report: "Report") -> None:
    for warning in report.warnings:
        click.echo(f"Warning: {warning}")
    for note in report.notes:
        click.echo(f"Note: {note.message}")
    summary = f"{_count(_models(report), 'model')}, {_count(len(report.warnings), 'warning')}"
    click.echo(f"{path} can be used: {summary}.")


def _models(report: "Report") -> int:
    return len(report.catalog.models) + len(report.catalog.images)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
