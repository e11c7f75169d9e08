"""A webhook about a job's end: a row of the outbox, kept for some days after its delivery."""

import re
import uuid

from sqlalchemy import Column, Index, LargeBinary, Text, text
from sqlmodel import Field, SQLModel

#: A message is given up after this, tried or not: a day, and what its pauses may be longer.
EXPIRY_SECONDS = 26 * 3600
#: Messages of one account that may wait; a further one takes the place of the oldest.
MAX_WAITING = 10_000


class Webhook(SQLModel, table=True):
    """One message to one receiver, inserted in the transaction that ends its job.

    Times are Unix seconds; `next_at` is by the database's clock.
    """

    __tablename__ = "webhooks"
    __table_args__ = (
        Index(
            "webhooks_due",
            "next_at",
            postgresql_where=text("next_at IS NOT NULL"),
            sqlite_where=text("next_at IS NOT NULL"),
        ),
        Index("webhooks_by_account", "account_id", "created"),
        # For the sender, which gives each account its turn.
        Index(
            "webhooks_due_by_account",
            *("account_id", "next_at"),
            postgresql_where=text("next_at IS NOT NULL"),
            sqlite_where=text("next_at IS NOT NULL"),
        ),
        # For the bound of each account, which is checked without reading a row.
        Index(
            "webhooks_waiting",
            *("account_id", "created", "next_at", "id"),
            postgresql_where=text("next_at IS NOT NULL"),
            sqlite_where=text("next_at IS NOT NULL"),
        ),
        Index(
            "webhooks_expiring",
            *("expires_at", "next_at"),
            postgresql_where=text("next_at IS NOT NULL"),
            sqlite_where=text("next_at IS NOT NULL"),
        ),
        Index("webhooks_by_time", "created"),
    )

    #: The header `webhook-id`, the same on every try.
    id: str = Field(primary_key=True, max_length=40)
    account_id: int = Field(foreign_key="accounts.id")
    job_id: str = Field(foreign_key="jobs.id", index=True, max_length=40)
    #: Such as `job.completed`.
    type: str = Field(max_length=20)
    url: str = Field(sa_column=Column(Text, nullable=False))
    #: The URL's host and port, which identify the receiver.
    host: str = Field(sa_column=Column(Text, nullable=False))
    #: The JSON payload; made at the first try and kept, so that every try sends the same.
    body: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    #: When the job ended.
    created: float
    #: When the next try is due; while one is under way, when that counts as lost. None if no try
    #: will follow.
    next_at: float | None = None
    #: When it is given up. None in rows that an earlier version inserted.
    expires_at: float | None = None
    #: How many tries were begun since it was created or last scheduled for redelivery.
    tries: int = 0
    delivered_at: float | None = None
    gave_up_at: float | None = None
    #: Why the last try failed.
    last_error: str | None = Field(default=None, sa_column=Column(Text))


def make_id() -> str:
    """Return a new message id."""
    return f"msg_{uuid.uuid4().hex}"


def host_of(url: str) -> str:
    """Return host and port of an http or https URL. Never raises: a job's end depends on it."""
    return re.sub(r"^[^/]*//|[/?#\\].*", "", url, flags=re.DOTALL).lower()
