"""`likedo workers`: the workers that are alive."""

import click

from cli.terminal.output import json_option, show_all

COLUMNS = ("name", "host", "pid", "running", "capacity", "last_seen")


@click.command()
@json_option
def command(as_json: bool) -> None:
    """List the workers that are alive, on all machines."""
    from jobs.maintenance import leases

    workers = [{name: getattr(row, name) for name in COLUMNS} for row in leases.live()]
    show_all([row | {"last_seen": int(row["last_seen"])} for row in workers], COLUMNS, as_json)
