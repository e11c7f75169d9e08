"""Ledger entries: every movement of credits, in a hash chain per account."""

import hashlib

from sqlalchemy import BigInteger, Column, Index, Integer, text
from sqlmodel import Field, SQLModel

#: The previous hash of an account's first entry.
NO_ENTRY = "0" * 64


class Entry(SQLModel, table=True):
    """One movement of credits. Never changed; mistakes are corrected by further entries."""

    __tablename__ = "entries"
    __table_args__ = (
        Index("entries_by_account", "account_id", "id"),
        # A job is charged once: the database itself refuses a second entry.
        Index(
            "entries_once",
            "job_id",
            "kind",
            unique=True,
            postgresql_where=text("job_id IS NOT NULL"),
            sqlite_where=text("job_id IS NOT NULL"),
        ),
    )

    id: int | None = Field(
        default=None,
        sa_column=Column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    )
    account_id: int = Field(foreign_key="accounts.id")
    job_id: str | None = Field(default=None, foreign_key="jobs.id", max_length=40)
    #: `grant`, `charge` or `write_off`.
    kind: str = Field(max_length=10)
    #: Credits, signed.
    credits: int = Field(sa_column=Column(BigInteger, nullable=False))
    balance_after: int = Field(sa_column=Column(BigInteger, nullable=False))
    reason: str = Field(default="", max_length=500)
    #: Unix seconds.
    created: float
    previous_hash: str = Field(max_length=64)
    hash: str = Field(max_length=64)


def chain(
    previous_hash: str,
    account_id: int,
    job_id: str | None,
    kind: str,
    credits: int,
    balance_after: int,
    reason: str,
) -> str:
    """Return the hash of an entry chained to `previous_hash`, in hex.

    Changing or removing an entry breaks the chain from there on.
    """
    fields = (previous_hash, account_id, job_id or "", kind, credits, balance_after, reason)
    return hashlib.sha256("\x1f".join(map(str, fields)).encode()).hexdigest()
