"""Who advances a batch, and what those may change who do not."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import insert, update
from sqlmodel import col

import database
import storage
from access import accounts, keys
from jobs.batch import dispatch, ownership
from jobs.batch import store as batch_store
from jobs.batch.ownership import OwnedBatch, OwnershipLost
from jobs.batch.store import MAX_ACTIVE_PER_ACCOUNT
from jobs.maintenance import leases
from jobs.worker.in_flight import this_worker
from models import batch
from models.batch import COMPLETION_WINDOW_SECONDS, Batch, BatchLine, BatchStatus
from models.errors import Unavailable
from models.file import File, Purpose
from models.lease import Lease
from storage import files
from storage.local import Local

pytestmark = pytest.mark.usefixtures("stored", "folder")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Put a folder behind the storage's seam."""
    folder = tmp_path / "files"
    monkeypatch.setattr(storage, "backend", lambda: Local(folder))
    yield folder


@pytest.fixture(autouse=True)
def our_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(this_worker, "lease", "ours")


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
        expires_at=time.time() + COMPLETION_WINDOW_SECONDS,
        worker=worker,
    )
    values = row.model_dump()
    database.run(lambda connection: connection.execute(insert(Batch).values(values)) and None)
    return row.id


def let_lease_end(name: str) -> None:
    over = update(Lease).where(col(Lease.name) == name).values(last_seen=0.0)
    database.run(lambda connection: connection.execute(over) and None)


def test_a_batch_is_advanced_by_one_worker_until_its_lease_is_over(account_id: int) -> None:
    leases.open("theirs", 10)
    leases.open("ours", 10)
    batch_id = make_batch(account_id)

    theirs = ownership.acquire("theirs", [], 10)
    meanwhile = ownership.acquire("ours", [], 10)
    let_lease_end("theirs")
    afterwards = ownership.acquire("ours", [], 10)
    known = ownership.acquire("ours", [batch_id], 10)

    assert (theirs, meanwhile) == ([batch_id], [])
    assert (afterwards, known) == ([batch_id], [])


def test_a_batch_that_its_worker_has_lost_sight_of_is_taken_on_again(account_id: int) -> None:
    leases.open("ours", 10)
    batch_id = make_batch(account_id, worker="ours")

    assert ownership.acquire("ours", [], 10) == [batch_id]


def test_an_account_with_many_batches_leaves_room_for_others(account_id: int) -> None:
    leases.open("ours", 10)
    many = [make_batch(account_id) for _ in range(MAX_ACTIVE_PER_ACCOUNT + 5)]
    other = make_batch(accounts.create("another", "pro"))

    taken = ownership.acquire("ours", [], 100)
    more = ownership.acquire("ours", taken, 100)

    assert taken == [*many[:MAX_ACTIVE_PER_ACCOUNT], other]
    assert more == []


def test_who_lost_a_batch_can_change_nothing_of_it(account_id: int) -> None:
    owned = OwnedBatch(make_batch(account_id, worker="theirs"), lambda: False)
    validating = owned.in_status(BatchStatus.VALIDATING)

    with pytest.raises(OwnershipLost):
        ownership.advance(validating, status=BatchStatus.FAILED.value)
    with pytest.raises(OwnershipLost):
        ownership.insert_lines(validating, [{"batch_id": owned.id, "number": 1}])
    with pytest.raises(OwnershipLost):
        dispatch.record_ended(owned)
    assert batch_store.get_one(owned.id).status == BatchStatus.VALIDATING


def test_no_more_lines_begin_than_there_is_room_for() -> None:
    assert dispatch.room(0) == dispatch.MAX_RUNNING
    assert dispatch.room(dispatch.MAX_RUNNING + 50) == 0


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
        raise Unavailable("The storage does not answer just now.")

    with monkeypatch.context() as patch:
        patch.setattr(Local, "delete", refuse)
        assert files.forget(file_id, account_id)
        assert files.find(file_id, account_id) is None
    long_ago = update(File).where(col(File.id) == file_id).values(created=0.0)
    database.run(lambda connection: connection.execute(long_ago) and None)

    assert files.forget_expired() == 1
    assert not (folder / "files" / file_id).exists()


def test_only_the_line_after_those_dispatched_is_the_next(
    account_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    leases.open("ours", 10)
    monkeypatch.setattr(this_worker, "lease", "ours")
    owned = OwnedBatch(make_batch(account_id, worker="ours"), lambda: True)
    in_progress = update(Batch).values(status=BatchStatus.IN_PROGRESS.value, fed=1)
    database.execute(in_progress.where(col(Batch.id) == owned.id))

    def is_next(number: int) -> bool:
        line = BatchLine(batch_id=owned.id, number=number, custom_id="", start=0, length=0)
        condition = dispatch._is_next(owned, line)
        return database.run(lambda connection: ownership.lock_if(connection, condition)) is not None

    assert [is_next(number) for number in (1, 2, 3)] == [False, True, False]
