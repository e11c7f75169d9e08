"""The schema's migrations, step by step, and the upgrade to the newest version."""

from pathlib import Path

from alembic import command
from alembic.config import Config

from database import engine

HERE = Path(__file__).parent


def upgrade() -> None:
    """Upgrade the database to the newest version; do nothing if it is up to date."""
    command.upgrade(config(), "head")


def config() -> Config:
    """Return Alembic's configuration, which needs no file."""
    made = Config()
    made.set_main_option("script_location", str(HERE))
    made.attributes["engine"] = engine.engine()
    return made
