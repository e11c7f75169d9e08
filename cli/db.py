"""`likedo db`: the database's tables."""

import click


@click.group()
def command() -> None:
    """Bring the database up to date."""


@command.command()
def upgrade() -> None:
    """Make or change the tables to what this version needs. Does no harm when run again."""
    import migrations

    migrations.upgrade()
    click.echo("The database is up to date.")
