"""Output of commands: a table for people, or one JSON document for programs."""

import datetime
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click
import orjson

#: The width without a terminal: wider than any table, so that nothing is truncated or wrapped.
PLAIN_WIDTH = 4000

#: Columns that hold Unix seconds.
TIMES = {
    *("created", "started_at", "finished_at", "last_seen", "oldest"),
    *("expires", "expires_at", "revoked_at", "next_at", "delivered_at", "gave_up_at"),
}

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")


def show_all(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], as_json: bool) -> None:
    """Print `rows`: as a JSON array with every field, or as a table of `columns`."""
    if as_json:
        return _print_json(list(rows))
    heads = [column.replace("_", " ") for column in columns]
    cells = [[_as_text(column, row.get(column)) for column in columns] for row in rows]
    if sys.stdout.isatty() or not _is_simple(cells):
        _print_with_rich(heads, cells)
    else:
        _print_plain([heads, *cells])


def _is_simple(cells: list[list[str]]) -> bool:
    """Tell whether every character is one column wide, and every cell one line."""
    return all(cell.isascii() and cell.isprintable() for row in cells for cell in row)


def _print_plain(lines: list[list[str]]) -> None:
    """Print what Rich would print without a terminal, without importing it."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        padded = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        click.echo("  ".join(padded))


def _print_with_rich(heads: list[str], cells: list[list[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=PLAIN_WIDTH, color_system=None)
    table = Table(box=box.SIMPLE_HEAD if console.is_terminal else None, pad_edge=False)
    for head in heads:
        table.add_column(head, overflow="fold")
    for row in cells:
        table.add_row(*map(Text, row))
    console.print(table)


def show(fields: Mapping[str, Any], as_json: bool) -> None:
    """Print `fields`: as a JSON object, or one per line."""
    if as_json:
        return _print_json(dict(fields))
    width = max(map(len, fields))
    for name, value in fields.items():
        click.echo(f"{name.replace('_', ' '):<{width}}  {_as_text(name, value)}")


def _print_json(content: Any) -> None:
    click.echo(orjson.dumps(content, option=orjson.OPT_INDENT_2).decode())


def _as_text(name: str, value: Any) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case int() | float() if name in TIMES:
            return f"{datetime.datetime.fromtimestamp(value):%Y-%m-%d %H:%M:%S}"
        case list():
            return ", ".join(map(str, value))
        case str():
            return value
        case _:
            return str(value)
