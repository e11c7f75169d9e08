"""`likedo workers`: who does the work."""

import click

from cli.terminal.output import json_option, show_all
from jobs.maintenance import leases

COLUMNS = ("name", "host", "pid", "running", "capacity", "last_seen")


@click.command()
@json_option
def command(as_json: bool) -> None:
    """List the workers that are alive, on whatever machine."""
    found = [{name: getattr(row, name) for name in COLUMNS} for row in leases.live()]
    show_all([row | {"last_seen": int(row["last_seen"])} for row in found], COLUMNS, as_json)
