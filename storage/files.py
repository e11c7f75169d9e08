"""Accounts' files: uploaded or written by batches, listed, deleted.

A file's row is inserted before the file is stored and deleted after it, so no file is orphaned.
"""

import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    delete,
    exists,
    false,
    insert,
    or_,
    select,
    update,
)
from sqlmodel import col

import database
import storage
from models.batch import FINAL, Batch
from models.errors import InvalidRequest, LikeDoError, Unavailable
from models.file import File, Purpose, make_id
from storage.backend import Pieces

log = structlog.get_logger()

MEDIA_TYPE = "application/jsonl"
#: How long a file is kept by default.
KEPT_SECONDS = 30 * 24 * 3600
#: A file that is not stored after this never will be.
UNSTORED_SECONDS = 3600
#: Rows that one maintenance pass deletes.
PAGE_SIZE = 200


def path_of(file_id: str) -> str:
    """Return the file's name in the storage."""
    return f"files/{file_id}"


def save(
    account_id: int,
    purpose: Purpose,
    filename: str,
    path: Path,
    seconds: int,
    check: Callable[[Connection], LikeDoError | None] | None = None,
) -> str:
    """Store the file at `path` for that many seconds and return its id; it is not visible yet.

    `check` locks the account and returns the error that refuses the file, if there is one; that is
    raised, and nothing was written. Raises `Unavailable`; then the row is deleted after a while,
    like any file that is never shown.
    """
    created = time.time()
    row = File(
        id=make_id(),
        account_id=account_id,
        purpose=purpose,
        filename=filename,
        bytes=path.stat().st_size,
        created=created,
        expires=created + seconds,
    )
    insert_row = insert(File).values(row.model_dump())

    def check_and_insert(connection: Connection) -> LikeDoError | None:
        # A refusal is returned, not raised: on SQLite other transactions share this one's commit.
        if check and (refusal := check(connection)):
            return refusal
        connection.execute(insert_row)
        return None

    if refusal := database.run(check_and_insert, repeatable=False):
        raise refusal
    storage.backend().save_file(path_of(row.id), path, MEDIA_TYPE)
    return row.id


def show(connection: Connection, file_ids: Collection[str]) -> None:
    """Make saved files visible, within the caller's transaction."""
    connection.execute(update(File).where(col(File.id).in_(file_ids)).values(is_stored=True))


def show_one(file_id: str) -> File:
    """Make a saved file visible, and return its row."""

    def show_and_read(connection: Connection) -> File:
        show(connection, [file_id])
        query = select(database.table(File)).where(col(File.id) == file_id)
        row = database.one(query, File, connection)
        assert row is not None
        return row

    return database.run(show_and_read)


def find(file_id: str, account_id: int) -> File | None:
    """Return the file's row; None if there is none, or it belongs to another account."""
    if not file_id.isprintable():
        return None  # PostgreSQL rejects NUL; such an id cannot exist.
    query = _visible(account_id).where(col(File.id) == file_id)
    return database.one(query, File)


def listing(
    limit: int,
    account_id: int,
    purpose: str | None = None,
    after: File | None = None,
    oldest_first: bool = False,
) -> list[File]:
    """Return the first `limit` matching files after the row `after`, newest first."""
    query = _visible(account_id)
    if purpose is not None:
        query = query.where(col(File.purpose) == purpose)
    if after is not None:
        query = query.where(_follows(after, oldest_first))
    columns = (col(File.created), col(File.id))
    order = columns if oldest_first else tuple(column.desc() for column in columns)
    query = query.order_by(*order).limit(limit)
    return database.all(query, File)


def _visible(account_id: int) -> Any:
    return select(database.table(File)).where(
        col(File.account_id) == account_id,
        col(File.is_stored).is_(True),
        col(File.expires) > time.time(),
    )


def _follows(after: File, oldest_first: bool) -> ColumnElement[bool]:
    created, file_id = col(File.created), col(File.id)
    if oldest_first:
        id_follows, created_follows = file_id > after.id, created > after.created
    else:
        id_follows, created_follows = file_id < after.id, created < after.created
    return or_(created_follows, and_(created == after.created, id_follows))


def content(file_id: str) -> tuple[int, Pieces] | None:
    """Return a file's size in bytes and its content; None if the storage has lost it."""
    return storage.backend().pieces(path_of(file_id))


def lock(connection: Connection, file_id: str, account_id: int) -> File | None:
    """Return a file's row, locked against deletion until the transaction's end, or None."""
    query = database.locked(_visible(account_id).where(col(File.id) == file_id))
    return database.one(query, File, connection)


#: Whether a file is the input of a batch that is not over.
_IN_USE = exists().where(
    col(Batch.input_file_id) == col(File.id), col(Batch.status).not_in([*map(str, FINAL)])
)


def forget(file_id: str, account_id: int) -> bool:
    """Delete a file of the account; False if there is none.

    Raises `InvalidRequest` if a batch needs it. If the storage cannot delete it just now,
    maintenance will.
    """
    outcome = database.run(lambda connection: _hide(connection, file_id, account_id))
    if isinstance(outcome, LikeDoError):
        raise outcome
    if outcome:
        _drop([file_id])
    return outcome


def _hide(connection: Connection, file_id: str, account_id: int) -> bool | InvalidRequest:
    # A refusal is returned, not raised: on SQLite other transactions share this one's commit.
    if lock(connection, file_id, account_id) is None:
        return False
    query = select(col(File.id)).where(col(File.id) == file_id, _IN_USE)
    if connection.execute(query).first():
        return InvalidRequest(
            f"The file '{file_id}' is the input of a batch that is not over. Cancel the batch or "
            "wait for its end."
        )
    connection.execute(update(File).where(col(File.id) == file_id).values(is_stored=False))
    return True


class _FileId:
    id: str


def forget_expired() -> int:
    """Delete files that have expired and that no batch needs, and those never stored whole."""
    now = time.time()
    # As in the condition of its index.
    is_unstored = col(File.is_stored) == false()
    unstored = select(col(File.id)).where(is_unstored, col(File.created) < now - UNSTORED_SECONDS)
    expired = select(col(File.id)).where(col(File.expires) < now, ~_IN_USE)
    oldest = (unstored.order_by(col(File.created)), expired.order_by(col(File.expires)))
    rows = [database.all(query.limit(PAGE_SIZE), _FileId) for query in oldest]
    return _drop(list({row.id for page in rows for row in page}))


def _drop(file_ids: list[str]) -> int:
    """Delete files, then their rows; a file that cannot be deleted keeps its row."""
    deleted = [file_id for file_id in file_ids if _delete(file_id)]
    database.execute(delete(File).where(col(File.id).in_(deleted)))
    return len(deleted)


def _delete(file_id: str) -> bool:
    try:
        storage.backend().delete(path_of(file_id))
    except Unavailable as error:
        log.warning("file.not_deleted", file=file_id, reason=repr(error.__cause__ or error))
        return False
    return True
