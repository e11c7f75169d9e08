"""What operators are told of a process that cannot work."""

from pathlib import Path

import pytest
import structlog

import storage
from app import create_app
from config.settings import settings
from database import engine as database_engine
from storage.local import Local

#: Of the form that keys have; nobody's.
KEY = f"lk-{'x' * 43}"


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
    engine = database_engine.make_engine(url)
    monkeypatch.setattr(database_engine, "engine", lambda: engine)
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


@pytest.mark.usefixtures("store", "bare_database")
def test_readiness_that_is_asked_for_often_is_found_out_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = Local(tmp_path)
    stored = []
    monkeypatch.setattr(files, "check", lambda: stored.append(1))
    monkeypatch.setattr(storage, "backend", lambda: files)
    client = create_app().test_client()

    replies = [client.get("/readyz") for _ in range(20)]

    assert {reply.status_code for reply in replies} == {503}
    assert len({reply.data for reply in replies}) == 1
    assert len(stored) == 1


@pytest.mark.usefixtures("store", "bare_database")
def test_the_log_of_a_failed_request_has_the_id_that_its_caller_got(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = create_app()
    with structlog.testing.capture_logs() as logged:
        # A logger that has written already keeps the processors it had then.
        monkeypatch.setattr("api.errors.log", structlog.get_logger())
        reply = app.test_client().get("/v1/models", headers={"Authorization": f"Bearer {KEY}"})

    (failed,) = [line for line in logged if line["event"] == "request.failed"]
    assert reply.status_code == 503
    assert failed["request"] == reply.headers["x-request-id"]
