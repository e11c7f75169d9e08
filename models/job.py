"""One piece of work: who asked, what it may cost, how it stands, and its answer."""

import uuid
from enum import StrEnum
from typing import Any

from sqlalchemy import BigInteger, Column, Index, LargeBinary, Text, literal_column, text
from sqlmodel import Field, SQLModel, col


class Status(StrEnum):
    QUEUED = "queued"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


#: Statuses a job never leaves again.
FINAL = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED, Status.EXPIRED})


class BodyAt(StrEnum):
    """Where a job's request body waits for the worker."""

    REDIS = "redis"
    STORAGE = "storage"
    SQL = "sql"
    #: Of a batch's line: within the file that holds the batch.
    FILE = "file"


class Job(SQLModel, table=True):
    """A job's record, kept for good. The row is the hold: nothing else remembers it.

    Times are Unix seconds. `usage`, `error` and `trail` are JSON texts.
    """

    __tablename__ = "jobs"
    __table_args__ = (
        Index("jobs_by_account", "account_id", "created"),
        Index(
            "jobs_queued",
            "created",
            "body_bytes",
            "batch_id",
            postgresql_where=text("status = 'queued'"),
            sqlite_where=text("status = 'queued'"),
        ),
        Index(
            "jobs_in_progress",
            "worker",
            postgresql_where=text("status = 'in_progress'"),
            sqlite_where=text("status = 'in_progress'"),
        ),
        Index("jobs_by_fingerprint", "key_id", "fingerprint", "created"),
        Index(
            "jobs_unfinished",
            "account_id",
            "enqueued_at",
            "batch_id",
            postgresql_where=text("status IN ('queued', 'in_progress')"),
            sqlite_where=text("status IN ('queued', 'in_progress')"),
        ),
    )

    id: str = Field(primary_key=True, max_length=40)
    account_id: int = Field(foreign_key="accounts.id")
    key_id: int = Field(foreign_key="keys.id")
    kind: str = Field(max_length=10)
    status: str = Field(default=Status.QUEUED, max_length=12)
    model: str = Field(max_length=256)
    #: Who answered, and as which of its models.
    provider: str | None = Field(default=None, max_length=20)
    upstream_model: str | None = Field(default=None, max_length=256)
    #: SHA-256 of path and raw body, in hex, by which a retry finds its job.
    fingerprint: str = Field(max_length=64)
    body_bytes: int
    body_at: str = Field(max_length=10)
    attempts: int = 0
    #: The lease of the worker that runs it.
    worker: str | None = Field(default=None, max_length=64)
    cancel_requested: bool = False
    #: Whether its answer is streamed, and then with the usage in a chunk of its own.
    stream: bool = False
    include_usage: bool = False
    #: Whether it ends when the client that waits for it goes away.
    cancel_on_disconnect: bool = False
    #: Of a stream that was completed: the number of the last event before those that end it.
    events: int | None = None
    #: Whether its caller was told to come back for it.
    asynchronous: bool = False
    #: The batch that it is a line of, and which.
    batch_id: str | None = Field(default=None, max_length=40)
    line: int | None = None
    #: Where its end is told of.
    webhook_url: str | None = Field(default=None, sa_column=Column(Text))
    #: The highest number of a retry that joined it.
    joined: int = 0
    #: Whether a retry may come for its answer as long as it is kept.
    is_idempotent: bool = False
    #: When the client that waited for it went away.
    left_at: float | None = None
    #: When its answer reached a client.
    handed_over_at: float | None = None

    created: float
    #: None while it waits for a place among the jobs of its account that may run.
    enqueued_at: float | None = None
    started_at: float | None = None
    finished_at: float | None = None

    #: Credits.
    held: int = Field(sa_column=Column(BigInteger, nullable=False))
    charged: int | None = Field(default=None, sa_column=Column(BigInteger))
    #: Output tokens of one choice that the upstream call is capped to.
    max_tokens: int
    #: How many answers or images it is to give.
    total: int = 1
    price: str = Field(sa_column=Column(Text, nullable=False))
    usage: str | None = Field(default=None, sa_column=Column(Text))
    error: str | None = Field(default=None, sa_column=Column(Text))
    #: Each time a provider was asked, as JSON: who, when, for how long, and how it failed.
    trail: str | None = Field(default=None, sa_column=Column(Text))


# With bound values, a database does not see that the rows are those of a partial index, and reads
# all that the account ever asked for.
_LITERAL: dict[Status, Any] = {status: literal_column(f"'{status.value}'") for status in Status}
IS_QUEUED = col(Job.status) == _LITERAL[Status.QUEUED]
IS_IN_PROGRESS = col(Job.status) == _LITERAL[Status.IN_PROGRESS]
IS_UNFINISHED = col(Job.status).in_([_LITERAL[Status.QUEUED], _LITERAL[Status.IN_PROGRESS]])


class Body(SQLModel, table=True):
    """The body of a job's request that outlives Redis, until the job has ended."""

    __tablename__ = "bodies"

    job_id: str = Field(primary_key=True, foreign_key="jobs.id", max_length=40)
    body: bytes = Field(sa_column=Column(LargeBinary, nullable=False))


class Idempotency(SQLModel, table=True):
    """The job that a key of the caller's own names, for retries to find it by."""

    __tablename__ = "idempotency"

    key_id: int = Field(primary_key=True, foreign_key="keys.id")
    #: SHA-256 of what the caller sent, in hex.
    name: str = Field(primary_key=True, max_length=64)
    job_id: str = Field(foreign_key="jobs.id", max_length=40)
    created: float = Field(index=True)


class Result(SQLModel, table=True):
    """A finished job's answer, as the JSON bytes that callers get."""

    __tablename__ = "results"

    job_id: str = Field(primary_key=True, foreign_key="jobs.id", max_length=40)
    body: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    expires_at: float = Field(index=True)


def make_id() -> str:
    """Return a new job id; nobody can guess another's."""
    return f"job_{uuid.uuid4().hex}"
