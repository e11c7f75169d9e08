"""`likedo up`: everything on one machine, until ctrl-c."""

import click

from cli.terminal.arguments import WholeNumber


@click.command()
@click.option("--port", type=WholeNumber(1, 65535), help="Default: PORT, or 8000.")
def command(port: int | None) -> None:
    """Run everything on this machine: web, worker, Valkey, SQLite."""
    from cli.local import run

    run.up(port)
