"""A database of its own for each test, in this process."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import migrations
from config.settings import settings
from database import engine
from tests.conftest import DATABASES, database_settings


@pytest.fixture(params=DATABASES[:2])
def stored(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Put a fresh database behind the seam."""
    found = database_settings(request.param, request)
    url = found.get("database_url", f"sqlite:///{tmp_path / 'test.db'}")
    monkeypatch.setattr(settings, "database_url", url.replace("postgresql:", "postgresql+psycopg:"))
    engine.engine.cache_clear()
    migrations.upgrade()
    yield
    engine.engine().dispose()
    engine.engine.cache_clear()
