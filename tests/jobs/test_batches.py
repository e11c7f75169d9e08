"""Who advances a batch, and what those may change who do not."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import insert, update
from sqlmodel import col

import storage
from access import accounts, keys
from jobs import batch_lines, batches, files, leases
from jobs.batches import MOST_AT_ONCE, Held, NotOurs
from jobs.running import work
from models import batch, database, errors
from models.batch import WINDOW_SECONDS, Batch, BatchStatus
from models.file import File, Purpose
from models.worker import Lease
from storage.local import Local
from tests.billing.conftest import stored  # noqa: F401  # a fixture

pytestmark = pytest.mark.usefixtures("stored", "folder")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Put a folder behind the storage's seam."""
    folder = tmp_path / "files"
    monkeypatch.setattr(storage, "backend", lambda: Local(folder))
    yield folder


@pytest.fixture(autouse=True)
def our_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "lease", "ours")


@pytest.fixture
def account_id(stored: None) -> int:  # noqa: F811  # the fixture
    return accounts.create(f"account-{time.monotonic_ns()}", "pro")


def make_file(account_id: int, tmp_path: Path, seconds: int = 3600) -> str:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"{}\n")
    return files.show_one(files.save(account_id, Purpose.BATCH, "a.jsonl", path, seconds)).id


def make_batch(account_id: int, input_file_id: str = "file-1", worker: str | None = None) -> str:
    key_id, _ = keys.create(account_id)
    row = Batch(
        id=batch.make_id(),
        account_id=account_id,
        key_id=key_id,
        endpoint="/v1/chat/completions",
        kind="chat",
        input_file_id=input_file_id,
        output_seconds=3600,
        address="http://here",
        fingerprint="",
        created=time.time(),
        expires_at=time.time() + WINDOW_SECONDS,
        worker=worker,
    )
    values = row.model_dump()
    database.run(lambda connection: connection.execute(insert(Batch).values(values)) and None)
    return row.id


def let_lease_end(name: str) -> None:
    over = update(Lease).where(col(Lease.name) == name).values(last_seen=0.0)
    database.run(lambda connection: connection.execute(over) and None)


def test_a_batch_is_advanced_by_one_worker_until_its_lease_is_over(account_id: int) -> None:
    leases.open_lease("theirs", 10)
    leases.open_lease("ours", 10)
    batch_id = make_batch(account_id)

    theirs = batches.take_on("theirs", [], 10)
    meanwhile = batches.take_on("ours", [], 10)
    let_lease_end("theirs")
    afterwards = batches.take_on("ours", [], 10)
    known = batches.take_on("ours", [batch_id], 10)

    assert (theirs, meanwhile) == ([batch_id], [])
    assert (afterwards, known) == ([batch_id], [])


def test_a_batch_that_its_worker_has_lost_sight_of_is_taken_on_again(account_id: int) -> None:
    leases.open_lease("ours", 10)
    batch_id = make_batch(account_id, worker="ours")

    assert batches.take_on("ours", [], 10) == [batch_id]


def test_an_account_with_many_batches_leaves_room_for_others(account_id: int) -> None:
    leases.open_lease("ours", 10)
    many = [make_batch(account_id) for _ in range(MOST_AT_ONCE + 5)]
    other = make_batch(accounts.create("another", "pro"))

    taken = batches.take_on("ours", [], 100)
    more = batches.take_on("ours", taken, 100)

    assert taken == [*many[:MOST_AT_ONCE], other]
    assert more == []


def test_who_lost_a_batch_can_change_nothing_of_it(account_id: int) -> None:
    held = Held(make_batch(account_id, worker="theirs"), lambda: False)
    validating = held.in_status(BatchStatus.VALIDATING)

    with pytest.raises(NotOurs):
        batches.advance(validating, status=BatchStatus.FAILED.value)
    with pytest.raises(NotOurs):
        batches.insert_lines(validating, [{"batch_id": held.id, "number": 1}])
    with pytest.raises(NotOurs):
        batch_lines.note_ended(held)
    assert batches.get_one(held.id).status == BatchStatus.VALIDATING


def test_no_more_lines_begin_than_there_is_room_for() -> None:
    assert batch_lines.room(0) == batch_lines.MOST_AHEAD
    assert batch_lines.room(batch_lines.MOST_AHEAD + 50) == 0


def test_files_are_forgotten_when_their_time_is_up_but_not_from_under_a_batch(
    account_id: int, tmp_path: Path, folder: Path
) -> None:
    kept = make_file(account_id, tmp_path)
    old = make_file(account_id, tmp_path, seconds=-1)
    needed = make_file(account_id, tmp_path, seconds=-1)
    make_batch(account_id, needed)
    broken_off = files.save(account_id, Purpose.BATCH, "b", tmp_path / "a.jsonl", 3600)
    long_ago = update(File).where(col(File.id) == broken_off).values(created=0.0)
    database.run(lambda connection: connection.execute(long_ago) and None)

    forgotten = files.forget_expired()

    assert forgotten == 2
    assert {path.name for path in (folder / "files").iterdir()} == {kept, needed}
    assert files.find(old, account_id) is None
    assert files.find(kept, account_id) is not None


def test_a_file_that_the_storage_does_not_delete_is_gone_all_the_same(
    account_id: int, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file_id = make_file(account_id, tmp_path)

    def refuse(*_: object) -> None:
        raise errors.Unavailable("The storage does not answer just now.")

    with monkeypatch.context() as patch:
        patch.setattr(Local, "delete", refuse)
        assert files.forget(file_id, account_id)
        assert files.find(file_id, account_id) is None
    long_ago = update(File).where(col(File.id) == file_id).values(created=0.0)
    database.run(lambda connection: connection.execute(long_ago) and None)

    assert files.forget_expired() == 1
    assert not (folder / "files" / file_id).exists()
