"""`likedo db`: the database's tables."""

import click


@click.group()
def command() -> None:
    """Bring the database up to date."""


@command.command()
def upgrade() -> None:
    """Create or change the tables as this version needs them. Safe to repeat."""
    import migrations

    migrations.upgrade()
    click.echo("The database is up to date.")
