import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update
from sqlmodel import col

import database
import storage
from access import listings
from config.settings import settings
from models.errors import Unavailable
from models.media import Media
from storage import media
from storage.local import Local
from storage.media import NormalizedImage
from tests.cli.conftest import Likedo
from tests.cli.test_jobs import queue

DAY = 24 * 3600


@pytest.fixture(autouse=True)
def account(likedo: Likedo, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two accounts, one with a job, and storage in the test's own folder."""
    files = Local(settings.var_dir / "files")
    monkeypatch.setattr(storage, "backend", lambda: files)
    likedo("accounts", "create", "acme", "--credits", "1000")
    likedo("accounts", "create", "other")
    likedo("keys", "create", "--account", "acme")


@pytest.fixture
def job_id(account: None) -> str:
    return queue()


def keep(job_id: str, account: str = "acme", days_old: float = 0, size: int = 1000) -> str:
    """Keep an image of an account's that was made some days ago; return its name."""
    source = settings.var_dir / "source"
    source.write_bytes(bytes(size))
    finished = NormalizedImage("image/png", size, 64, 32)
    account_id = listings.account(account).id
    name = media.keep(job_id, account_id, 0, source, finished, None).name
    created = time.time() - days_old * DAY
    ages = {"created": created, "expires": created + 30 * DAY}

    def age_image(connection: Any) -> None:
        connection.execute(update(Media).where(col(Media.name) == name).values(**ages))

    database.run(age_image)
    return name


def file_of(name: str) -> Path:
    return settings.var_dir / "files" / "media" / name


def names(likedo: Likedo, *filters: str) -> list[str]:
    return [row["name"] for row in likedo("media", "list", *filters, "--json")]


def test_images_are_listed_the_newest_first(likedo: Likedo, job_id: str) -> None:
    old, new = keep(job_id, days_old=2), keep(job_id)

    first, second = likedo("media", "list", "--json")

    assert [first["name"], second["name"]] == [new, old]
    assert (
        first.items()
        >= {
            "account": "acme",
            "job": job_id,
            "size": "64x32",
            "bytes": 1000,
            "stored": True,
            "address": f"/media/{new}",
        }.items()
    )
    assert first["expires"] - first["created"] == 30 * DAY
    table = likedo("media", "list")
    assert new in table and "64x32" in table and f"/media/{new}" in table


def test_images_are_listed_by_account_and_up_to_a_limit(likedo: Likedo, job_id: str) -> None:
    keep(job_id, days_old=1)
    newest, others = keep(job_id), keep(job_id, "other", days_old=3)

    assert names(likedo, "--account", "other") == [others]
    assert names(likedo, "--limit", "1") == [newest]
    assert "nobody" in likedo.refuses("media", "list", "--account", "nobody")


def test_an_image_whose_link_cannot_be_signed_is_listed_without_it(
    likedo: Likedo, job_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(job_id)

    def cannot(name: str) -> str:
        raise Unavailable("No credentials.")

    monkeypatch.setattr(storage.backend(), "url", cannot)

    assert likedo("media", "list", "--json")[0]["address"] is None


def test_the_bytes_of_all_images_are_shown(likedo: Likedo, job_id: str) -> None:
    assert likedo("media", "usage", "--json") == {"images": 0, "bytes": 0, "oldest": None}
    keep(job_id, size=1000, days_old=1)
    keep(job_id, "other", size=500)

    shown = likedo("media", "usage", "--json")

    assert (shown["images"], shown["bytes"]) == (2, 1500)
    assert shown["oldest"] == pytest.approx(time.time() - DAY, abs=60)
    assert likedo("media", "usage", "--account", "other", "--json")["bytes"] == 500
    assert "1500" in likedo("media", "usage")


def test_what_has_expired_is_pruned(likedo: Likedo, job_id: str) -> None:
    fresh, expired = keep(job_id, days_old=29), keep(job_id, days_old=31)

    said = likedo("media", "prune")

    assert said == "Deleted 1 images of 1000 bytes.\n"
    assert names(likedo) == [fresh]
    assert file_of(fresh).exists() and not file_of(expired).exists()


def test_what_is_older_is_pruned_on_demand(likedo: Likedo, job_id: str) -> None:
    old, new = keep(job_id, days_old=3), keep(job_id, days_old=1)
    others = keep(job_id, "other", days_old=3)

    done = likedo("media", "prune", "--older-than", "2", "--account", "acme", "--json")

    assert done == {"images": 1, "bytes": 1000, "failed": 0, "dry_run": False}
    assert set(names(likedo)) == {new, others}
    assert not file_of(old).exists()


def test_a_dry_run_deletes_nothing(likedo: Likedo, job_id: str) -> None:
    name = keep(job_id)

    done = likedo("media", "prune", "--older-than", "0", "--dry-run", "--json")

    assert done == {"images": 1, "bytes": 1000, "failed": 0, "dry_run": True}
    assert likedo("media", "prune", "--older-than", "0", "--dry-run") == (
        "Would delete 1 images of 1000 bytes.\n"
    )
    assert names(likedo) == [name]
    assert file_of(name).exists()


def test_what_is_being_stored_is_not_pruned(likedo: Likedo, job_id: str) -> None:
    name = keep(job_id)

    def mark_unstored(connection: Any) -> None:
        connection.execute(update(Media).values(is_stored=False))

    database.run(mark_unstored)

    assert "Deleted 0 images" in likedo("media", "prune", "--older-than", "0")
    assert names(likedo) == [name]


def test_what_cannot_be_deleted_is_told(
    likedo: Likedo, job_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from click.testing import CliRunner

    from cli.main import main

    kept, gone = keep(job_id, days_old=31), keep(job_id, days_old=32)
    delete = storage.backend().delete

    def moody(name: str) -> None:
        if kept in name:
            raise Unavailable("The storage does not answer just now. Try again.")
        delete(name)

    monkeypatch.setattr(storage.backend(), "delete", moody)

    done = CliRunner().invoke(main, ["media", "prune"])

    assert done.exit_code == 1
    assert done.stdout == "Deleted 1 images of 1000 bytes.\n"
    assert "1 images could not be deleted" in done.stderr
    assert names(likedo) == [kept]
    assert not file_of(gone).exists()


@pytest.mark.parametrize("days", ["-1", "nan", "soon"])
def test_days_that_are_no_number_of_days_are_refused(likedo: Likedo, days: str) -> None:
    assert "--older-than" in likedo.refuses("media", "prune", "--older-than", days, code=2)
