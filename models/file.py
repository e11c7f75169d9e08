"""A file that a caller uploaded, or that a batch wrote for its caller."""

import uuid
from enum import StrEnum

from sqlalchemy import BigInteger, Column, Index, text
from sqlmodel import Field, SQLModel

MIB = 1024 * 1024
#: Maximum size of an uploaded file.
MAX_BYTES = 100 * MIB


class Purpose(StrEnum):
    BATCH = "batch"
    BATCH_OUTPUT = "batch_output"


class File(SQLModel, table=True):
    """One file. Its row exists before the file and after it, so that no file is ever orphaned.

    Times are Unix seconds.
    """

    __tablename__ = "files"
    __table_args__ = (
        Index("files_by_account", "account_id", "bytes"),
        Index("files_listed", "account_id", "created", "id"),
        Index(
            "files_unstored",
            "created",
            postgresql_where=text("is_stored = false"),
            sqlite_where=text("is_stored = 0"),
        ),
    )

    id: str = Field(primary_key=True, max_length=40)
    account_id: int = Field(foreign_key="accounts.id", index=True)
    purpose: str = Field(max_length=20)
    #: As the caller named it.
    filename: str = Field(max_length=255)
    bytes: int = Field(sa_column=Column(BigInteger, nullable=False))
    #: Whether the whole file is in storage, and was not deleted.
    is_stored: bool = False
    created: float
    expires: float = Field(index=True)


def make_id() -> str:
    """Return a new file id, which cannot be guessed."""
    return f"file-{uuid.uuid4().hex}"
