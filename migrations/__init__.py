"""How the database came to have its tables, step by step, and the way to the newest."""

from pathlib import Path

from alembic import command
from alembic.config import Config

from database import engine

HERE = Path(__file__).parent


def upgrade() -> None:
    """Bring the database to the newest version; does nothing where it is there already."""
    command.upgrade(config(), "head")


def config() -> Config:
    """Return Alembic's configuration, which needs no file."""
    made = Config()
    made.set_main_option("script_location", str(HERE))
    made.attributes["engine"] = engine.engine()
    return made
