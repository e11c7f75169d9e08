"""The catalogue, loaded once per process."""

from pathlib import Path

from config.catalog.root import Catalog
from config.catalog.source import Source
from config.settings import settings


def load(path: Path) -> Catalog:
    """Return the catalogue at `path`; raise `InvalidCatalog` naming every line that is wrong."""
    return Source.read(path).catalog()


catalog = load(settings.catalog)
settings.read_providers(catalog.providers)
