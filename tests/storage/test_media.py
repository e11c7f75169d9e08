"""Images are kept before they are paid, and no file outlives what is known of it."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import gevent.event
import pytest
from sqlalchemy import select, text, update
from sqlmodel import col

import database
import storage
from config.settings import settings
from database import engine
from jobs.maintenance import expiry
from models.errors import Unavailable
from models.media import Media
from storage import media
from storage.local import Local
from storage.media import NormalizedImage
from tests.job_rows import hold, make_account
from tests.stack import ROOT, clean_environment

pytestmark = pytest.mark.usefixtures("stored", "files")

FINISHED = NormalizedImage("image/png", 8, 64, 32)
DAY = 24 * 3600


class Moody(Local):
    """A folder that fails as often as it is told to, and for the files it is told to."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.failures_left = 0
        self.cannot_delete: set[str] = set()

    def save_file(self, name: str, path: Path, media_type: str) -> None:
        if self.failures_left:
            self.failures_left -= 1
            raise Unavailable("The storage does not answer just now. Try again.")
        super().save_file(name, path, media_type)

    def delete(self, name: str) -> None:
        if name in self.cannot_delete:
            raise Unavailable("The storage does not answer just now. Try again.")
        super().delete(name)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Moody:
    """The storage, whose failures are waited out without waiting."""
    files = Moody(tmp_path / "files")
    monkeypatch.setattr(storage, "backend", lambda: files)
    monkeypatch.setattr(media, "RETRY_SECONDS", (0, 0, 0))
    return files


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image.png"
    path.write_bytes(b"an image")
    return path


@pytest.fixture
def job_id(stored: None) -> str:  # noqa: F811  # the fixture of that name
    return make_job(make_account())


def make_job(account_id: int) -> str:
    return hold(account_id, kind="image", model="dall-e-3")


def keep(job_id: str, image: Path, place: int = 0) -> str:
    """Keep an image of the first account's, and return its name."""
    return media.keep(job_id, 1, place, image, FINISHED, "A better prompt").name


def rows() -> list[Any]:
    query = select(database.table(Media))
    return database.run(lambda connection: list(connection.execute(query)))


def test_what_a_database_cannot_store_is_left_out_of_a_revised_prompt(
    files: Moody, job_id: str, image: Path
) -> None:
    media.keep(job_id, 1, 0, image, FINISHED, "A\0 cat" + "!" * media.MAX_REVISED_CHARACTERS)

    (row,) = rows()
    assert row.revised_prompt.startswith("A cat!")
    assert len(row.revised_prompt) == media.MAX_REVISED_CHARACTERS


def change(name: str, **values: Any) -> None:
    """Change an image's row as time or a dead worker would."""

    def change_row(connection: Any) -> None:
        connection.execute(update(Media).where(col(Media.name) == name).values(**values))

    database.run(change_row)


def test_an_image_is_kept_with_what_is_known_of_it(
    files: Moody, job_id: str, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "media_ttl_days", 3)
    before = time.time()

    kept = media.keep(job_id, 1, 2, image, FINISHED, "A better prompt")

    (row,) = rows()
    assert files.load(media.file_of(kept.name)) == b"an image"
    assert kept.name.endswith(".png")
    assert row._asdict() == kept.model_dump()
    assert (row.job_id, row.account_id, row.place, row.is_stored) == (job_id, 1, 2, True)
    assert (row.media_type, row.bytes, row.width, row.height) == ("image/png", 8, 64, 32)
    assert row.revised_prompt == "A better prompt"
    assert before <= row.created <= time.time()
    assert row.expires - row.created == pytest.approx(3 * DAY)


def test_the_row_is_there_before_the_file(
    files: Moody, job_id: str, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    save = files.save_file

    def watched(name: str, path: Path, media_type: str) -> None:
        seen.extend(rows())
        save(name, path, media_type)

    monkeypatch.setattr(files, "save_file", watched)

    name = keep(job_id, image)

    assert [(row.name, row.is_stored) for row in seen] == [(name, False)]


def test_a_storage_that_fails_for_a_moment_is_tried_again(
    files: Moody, job_id: str, image: Path
) -> None:
    files.failures_left = 3

    name = keep(job_id, image)

    assert files.load(media.file_of(name)) == b"an image"
    assert len(rows()) == 1


def test_a_storage_that_goes_on_failing_is_given_up(files: Moody, job_id: str, image: Path) -> None:
    files.failures_left = 4

    with pytest.raises(Unavailable):
        keep(job_id, image)

    (row,) = rows()
    assert not row.is_stored
    assert media.of_job(job_id) == []


def test_a_database_that_fails_for_a_moment_is_tried_again(
    files: Moody, job_id: str, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, calls = database.run, iter([True, False, False, True, True, False])

    def failing(transaction: Any) -> Any:
        """Fail before the first transaction and, as a lost answer does, after the second."""
        if next(calls):
            raise Unavailable("The database does not answer just now. Try again.")
        return run(transaction)

    with monkeypatch.context() as patch:
        patch.setattr(database, "run", failing)
        name = keep(job_id, image)

    assert [(row.name, row.is_stored) for row in rows()] == [(name, True)]


def test_a_row_whose_commit_was_not_confirmed_is_written_once(job_id: str, image: Path) -> None:
    row = media._row(job_id, 1, 0, FINISHED, None)

    for _ in range(2):
        database.run(lambda connection: media._insert(connection, row))

    assert len(rows()) == 1


def test_a_job_s_images_are_those_that_are_stored_by_place(job_id: str, image: Path) -> None:
    names = {place: keep(job_id, image, place) for place in (3, 0, 2, 1)}
    change(names[2], is_stored=False)
    keep(make_job(1), image)

    found = media.of_job(job_id)

    assert [(row.place, row.name) for row in found] == [
        (0, names[0]),
        (1, names[1]),
        (3, names[3]),
    ]


def test_of_two_images_at_one_place_the_first_is_the_job_s(job_id: str, image: Path) -> None:
    first, second = keep(job_id, image, 0), keep(job_id, image, 0)
    change(first, created=1.0)
    change(second, created=2.0)

    assert [row.name for row in media.of_job(job_id)] == [first]


def test_an_image_has_a_path_here_or_a_link_elsewhere(
    files: Moody, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert media.address("x.png") == "/media/x.png"

    monkeypatch.setattr(files, "url", lambda name: f"https://cdn.example.com/{name}")

    assert media.address("x.png") == "https://cdn.example.com/media/x.png"


def test_what_is_forgotten_is_gone_file_and_row(files: Moody, job_id: str, image: Path) -> None:
    one, two = keep(job_id, image, 0), keep(job_id, image, 1)

    assert media.forget([one]) == [one]

    assert files.load(media.file_of(one)) is None
    assert files.load(media.file_of(two)) == b"an image"
    assert [row.name for row in rows()] == [two]


def test_a_file_that_cannot_be_deleted_keeps_its_row_and_no_other(
    files: Moody, job_id: str, image: Path
) -> None:
    names = [keep(job_id, image, place) for place in range(3)]
    files.cannot_delete = {media.file_of(names[1])}

    assert media.forget(names) == [names[0], names[2]]

    assert [row.name for row in rows()] == [names[1]]
    files.cannot_delete = set()
    assert media.forget(names) == names
    assert rows() == []


def test_what_has_expired_or_was_never_stored_is_forgotten(
    files: Moody, job_id: str, image: Path
) -> None:
    fresh, old, half, arriving = (keep(job_id, image, place) for place in range(4))
    change(old, expires=time.time() - 1)
    change(half, is_stored=False, created=time.time() - 3601)
    change(arriving, is_stored=False, created=time.time() - 3500)

    assert media.forget_expired() == 2

    assert {row.name for row in rows()} == {fresh, arriving}
    assert files.load(media.file_of(old)) is None
    assert files.load(media.file_of(half)) is None


def test_many_are_forgotten_in_batches_and_one_that_stays_keeps_no_other(
    files: Moody, job_id: str, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(media, "PAGE_SIZE", 3)
    names = sorted(keep(job_id, image, place) for place in range(10))
    for name in names:
        change(name, expires=1.0)
    files.cannot_delete = {media.file_of(name) for name in names[:4]}

    assert media.forget_expired() == 6

    assert sorted(row.name for row in rows()) == names[:4]


@pytest.fixture
def cleanup_is_due(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(expiry, "_cleanup_started_at", -1e9)
    monkeypatch.setattr(expiry, "_storage_cleanup", None)
    yield


def forgets() -> None:
    """Start the cleanup and wait until it is done."""
    expiry.start_storage_cleanup()
    if expiry._storage_cleanup is not None:
        gevent.joinall([expiry._storage_cleanup], raise_error=True)


@pytest.mark.usefixtures("cleanup_is_due")
def test_maintenance_deletes_expired_media_once_a_minute(
    job_id: str, image: Path, monkeypatch: Any
) -> None:
    change(keep(job_id, image), expires=1.0)
    forgets()
    assert rows() == []

    change(keep(job_id, image), expires=1.0)
    forgets()
    assert len(rows()) == 1

    monkeypatch.setattr(expiry, "_cleanup_started_at", time.monotonic() - 61)
    forgets()
    assert rows() == []


@pytest.mark.usefixtures("cleanup_is_due")
def test_maintenance_goes_on_where_the_database_lacks_the_table(job_id: str) -> None:
    with engine.engine().begin() as connection:
        connection.execute(text("DROP TABLE media"))

    forgets()


@pytest.mark.usefixtures("cleanup_is_due")
def test_a_maintenance_pass_does_not_wait_for_a_slow_storage(
    files: Moody, job_id: str, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(keep(job_id, image), expires=1.0)
    answer = gevent.event.Event()
    begun: list[str] = []

    def slow(name: str) -> None:
        begun.append(name)
        answer.wait()

    monkeypatch.setattr(files, "delete", slow)

    expiry.start_storage_cleanup()
    gevent.sleep(0)
    monkeypatch.setattr(expiry, "_cleanup_started_at", time.monotonic() - 61)
    expiry.start_storage_cleanup()

    assert len(begun) == 1
    assert len(rows()) == 1
    answer.set()
    assert expiry._storage_cleanup is not None
    expiry._storage_cleanup.join()
    assert rows() == []


def test_the_web_process_does_not_load_what_decodes_images() -> None:
    code = "import sys, app; print({'PIL', 'boto3'} & set(sys.modules))"

    done = subprocess.run(
        [sys.executable, "-c", code],
        env=clean_environment() | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout == "set()\n"
