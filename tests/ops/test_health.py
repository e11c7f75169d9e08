"""What operators are told of a process that cannot work."""

from pathlib import Path

import pytest

from app import create_app
from config.settings import settings
from models import database


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def bare_database(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database without tables."""
    url = f"sqlite:///{tmp_path}/bare.db"
    if request.param == "postgresql":
        made = request.getfixturevalue("postgres_server").database()
        url = made.replace("postgresql://", "postgresql+psycopg://")
    monkeypatch.setattr(settings, "database_url", url)
    engine = database.make_engine(url)
    monkeypatch.setattr(database, "engine", lambda: engine)
    request.addfinalizer(engine.dispose)


@pytest.mark.usefixtures("store", "bare_database")
def test_readiness_says_that_the_tables_have_to_be_made() -> None:
    reply = create_app().test_client().get("/readyz")

    assert reply.status_code == 503
    assert reply.json == {
        "status": "unavailable",
        "missing": ["database"],
        "reasons": {
            "database": "It lacks tables that this version needs: run `likedo db upgrade`."
        },
    }
