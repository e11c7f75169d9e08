"""The storage quota: how many bytes an account keeps, and how many its plan lets it keep.

Only what a caller uploads or asks for later can be refused. What a batch has written was paid for,
so it counts, but it is always kept. Images and answers expire by themselves, so they do not count.
"""

from collections.abc import Callable
from typing import Any, cast

from sqlalchemy import ColumnElement, Connection, bindparam, case, false, func, select
from sqlmodel import col

import database
from models.account import Account
from models.batch import Batch
from models.errors import StorageQuotaExceeded
from models.file import File
from models.job import IS_UNFINISHED, Body, BodyAt, Job

#: A file counts as at least so many bytes, which bounds the number of files.
MIN_FILE_BYTES = 64 * 1024

Check = Callable[[Connection], StorageQuotaExceeded | None]


def _sum(size: Any, *conditions: ColumnElement[bool]) -> Any:
    return select(func.coalesce(func.sum(size), 0)).where(*conditions)


_ACCOUNT: Any = bindparam("account")
_FILE_BYTES = case((col(File.bytes) < MIN_FILE_BYTES, MIN_FILE_BYTES), else_=col(File.bytes))
_FILES = _sum(_FILE_BYTES, col(File.account_id) == _ACCOUNT)
# The rows of a batch's lines take about as much as their file, as long as it is not over.
_BATCHES = _sum(
    _FILE_BYTES,
    col(Batch.account_id) == _ACCOUNT,
    col(Batch.is_done) == false(),
    col(File.id) == col(Batch.input_file_id),
)
_BODIES_IN_SQL = _sum(col(Body.bytes), col(Body.account_id) == _ACCOUNT)
_BODIES_IN_STORAGE = [
    _sum(
        col(Job.body_bytes),
        col(Job.account_id) == _ACCOUNT,
        IS_UNFINISHED,
        has_slot,
        col(Job.batch_id).is_(None),
        col(Job.asynchronous).is_(True),
        col(Job.body_at) == BodyAt.STORAGE.value,
    )
    # All jobs, but SQLite takes the index of unfinished ones only for two of its columns.
    for has_slot in (col(Job.enqueued_at).is_(None), col(Job.enqueued_at) >= 0)
]
_SUMS = (_FILES, _BATCHES, _BODIES_IN_SQL, *_BODIES_IN_STORAGE)
_STORED = select(*(query.scalar_subquery() for query in _SUMS))
_LOCK = database.locked(select(col(Account.id)).where(col(Account.id) == _ACCOUNT))


def stored_bytes(connection: Connection, account_id: int) -> int:
    """Return the bytes of the account's files, unfinished batches and jobs to be fetched later."""
    sums = connection.execute(_STORED, {"account": account_id}).one()
    return sum(int(cast("int", each)) for each in sums)


def check(account_id: int, new_bytes: int, max_bytes: int) -> Check:
    """Return the check that an account may keep so many more bytes, to be run in a transaction.

    It locks the account, and returns the error if `max_bytes` would be exceeded.
    """

    def refuse(connection: Connection) -> StorageQuotaExceeded | None:
        connection.execute(_LOCK, {"account": account_id})
        used = stored_bytes(connection, account_id)
        if used + new_bytes <= max_bytes:
            return None
        return StorageQuotaExceeded(
            f"Your account keeps {used} bytes in files, unfinished batches and asynchronous jobs; "
            f"with the {new_bytes} of this request it would keep more than the {max_bytes} that "
            "its plan allows. Delete files that you no longer need, or wait for batches to end."
        )

    return refuse


def check_file(account_id: int, file_bytes: int, max_bytes: int) -> Check:
    """Return the check for another file, or for a batch of its lines; see `check`."""
    return check(account_id, max(file_bytes, MIN_FILE_BYTES), max_bytes)
