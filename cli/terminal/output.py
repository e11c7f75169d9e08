"""What commands print: a table for people, or one JSON document for programs."""

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

import click
import orjson
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

#: Wider than any table of ours: where no terminal sets a width, nothing is cut or wrapped.
PLAIN_WIDTH = 4000

#: Columns that hold Unix seconds.
TIMES = {
    *("created", "started_at", "finished_at", "last_seen", "oldest"),
    *("expires", "expires_at", "revoked_at", "next_at", "delivered_at", "gave_up_at"),
}

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")


def show_all(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], as_json: bool) -> None:
    """Print `rows`: all of them as a JSON array, or their `columns` as a table."""
    if as_json:
        return _print_json(list(rows))
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=PLAIN_WIDTH, color_system=None)
    table = Table(box=box.SIMPLE_HEAD if console.is_terminal else None, pad_edge=False)
    for column in columns:
        table.add_column(column.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*(Text(_word(column, row.get(column))) for column in columns))
    console.print(table)


def show(facts: Mapping[str, Any], as_json: bool) -> None:
    """Print `facts`: as a JSON object, or one a line."""
    if as_json:
        return _print_json(dict(facts))
    width = max(map(len, facts))
    for name, value in facts.items():
        click.echo(f"{name.replace('_', ' '):<{width}}  {_word(name, value)}")


def _print_json(content: Any) -> None:
    click.echo(orjson.dumps(content, option=orjson.OPT_INDENT_2).decode())


def _word(name: str, value: Any) -> str:
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
