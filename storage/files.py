"""Files that are kept for their accounts: uploaded, written by batches, listed, forgotten.

A file's row is there before the file and goes after it, so that no file is ever forgotten about.
"""

import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    and_,
    delete,
    exists,
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
#: Unless its caller says otherwise, a file is kept for so long.
KEPT_SECONDS = 30 * 24 * 3600
#: A file that was not whole after this never will be.
UNSTORED_SECONDS = 3600
#: Rows that one pass of upkeep takes on.
PAGE_SIZE = 200


def path_of(file_id: str) -> str:
    """Return where in the storage the file is."""
    return f"files/{file_id}"


def save(account_id: int, purpose: Purpose, filename: str, path: Path, seconds: int) -> str:
    """Keep the file at `path` for so many seconds, and return its id; nobody sees it yet.

    Raises `Unavailable`; then it is forgotten after a while, as one that is never shown.
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
    new = insert(File).values(row.model_dump())
    database.run(lambda connection: connection.execute(new) and None, repeatable=False)
    storage.backend().save_file(path_of(row.id), path, MEDIA_TYPE)
    return row.id


def show(connection: Connection, file_ids: Collection[str]) -> None:
    """Let files be seen that were saved, within the transaction of who knows of them."""
    connection.execute(update(File).where(col(File.id).in_(file_ids)).values(is_stored=True))


def show_one(file_id: str) -> File:
    """Let a file be seen that was saved, and return its row."""

    def work(connection: Connection) -> File:
        show(connection, [file_id])
        query = select(database.table(File)).where(col(File.id) == file_id)
        row = database.one(query, File, connection)
        assert row is not None
        return row

    return database.run(work)


def find(file_id: str, account_id: int) -> File | None:
    """Return the file's row; None where there is none, or it is another account's."""
    if not file_id.isprintable():
        return None  # Nor could the database be asked for a NUL.
    query = _seen(account_id).where(col(File.id) == file_id)
    return database.one(query, File)


def listing(
    limit: int,
    account_id: int,
    purpose: str | None = None,
    after: File | None = None,
    oldest_first: bool = False,
) -> list[File]:
    """Return the first `limit` files that fit, those after `after`; the newest is the first."""
    query = _seen(account_id)
    if purpose is not None:
        query = query.where(col(File.purpose) == purpose)
    if after is not None:
        query = query.where(_follows(after, oldest_first))
    columns = (col(File.created), col(File.id))
    order = columns if oldest_first else tuple(column.desc() for column in columns)
    query = query.order_by(*order).limit(limit)
    return database.all(query, File)


def _seen(account_id: int) -> Any:
    return select(database.table(File)).where(
        col(File.account_id) == account_id,
        col(File.is_stored).is_(True),
        col(File.expires) > time.time(),
    )


def _follows(after: File, oldest_first: bool) -> ColumnElement[bool]:
    created, file_id = col(File.created), col(File.id)
    if oldest_first:
        beside, beyond = file_id > after.id, created > after.created
    else:
        beside, beyond = file_id < after.id, created < after.created
    return or_(beyond, and_(created == after.created, beside))


def content(file_id: str) -> tuple[int, Pieces] | None:
    """Return how many bytes a file has, and these; None where the storage has lost it."""
    return storage.backend().pieces(path_of(file_id))


def lock(connection: Connection, file_id: str, account_id: int) -> Row[Any] | None:
    """Return the row of a file that nobody deletes until the transaction's end, if it is there."""
    query = database.locked(_seen(account_id).where(col(File.id) == file_id))
    row: Row[Any] | None = connection.execute(query).one_or_none()
    return row


#: Of a file: it is the input of a batch that is not over.
_IN_USE = exists().where(
    col(Batch.input_file_id) == col(File.id), col(Batch.status).not_in([*map(str, FINAL)])
)


def forget(file_id: str, account_id: int) -> bool:
    """Delete a file of the account; False where there is none.

    Raises `InvalidRequest` where a batch needs it. What the storage does not delete just now is
    upkeep's to delete.
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


def forget_expired() -> int:
    """Delete files whose time is up and that no batch needs, and what was never whole."""
    now = time.time()
    unstored = and_(col(File.is_stored).is_(False), col(File.created) < now - UNSTORED_SECONDS)
    over = and_(col(File.expires) < now, ~_IN_USE)
    query = (
        select(col(File.id)).where(or_(unstored, over)).order_by(col(File.expires)).limit(PAGE_SIZE)
    )
    return _drop(database.run(lambda connection: list(connection.execute(query).scalars())))


def _drop(file_ids: list[str]) -> int:
    """Delete files, then their rows; one that cannot be deleted keeps its row."""
    gone = [file_id for file_id in file_ids if _delete(file_id)]
    these = delete(File).where(col(File.id).in_(gone))
    database.run(lambda connection: connection.execute(these) and None)
    return len(gone)


def _delete(file_id: str) -> bool:
    try:
        storage.backend().delete(path_of(file_id))
    except Unavailable as error:
        log.warning("file.not_deleted", file=file_id, reason=repr(error.__cause__ or error))
        return False
    return True
