"""A job: its request, what it may cost, its state and its answer."""

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


#: Statuses that a job never leaves.
FINAL = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED, Status.EXPIRED})


class BodyAt(StrEnum):
    """Where a job's request body is stored for its worker."""

    REDIS = "redis"
    STORAGE = "storage"
    SQL = "sql"
    #: For a batch line: within the input file of its batch.
    FILE = "file"


_ENDED = "status IN ('completed', 'failed', 'cancelled', 'expired') AND batch_id IS NULL"


class Job(SQLModel, table=True):
    """A job's record, kept for good. The row is the hold: no other record of it exists.

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
        # What the limits of the queue count. With the columns of its own condition in it, SQLite
        # need not read the rows.
        Index(
            "jobs_waiting",
            *("account_id", "body_bytes", "batch_id", "status"),
            postgresql_where=text("status = 'queued' AND batch_id IS NULL"),
            sqlite_where=text("status = 'queued' AND batch_id IS NULL"),
        ),
        Index(
            "jobs_in_progress",
            "worker",
            postgresql_where=text("status = 'in_progress'"),
            sqlite_where=text("status = 'in_progress'"),
        ),
        Index(
            "jobs_left",
            "left_at",
            postgresql_where=text("status = 'queued' AND left_at IS NOT NULL"),
            sqlite_where=text("status = 'queued' AND left_at IS NOT NULL"),
        ),
        # For listings by status and kind, however rare. Written once for each job, when it ends.
        Index(
            "jobs_ended_by_account",
            *("account_id", "kind", "status", "created", "id"),
            postgresql_where=text(_ENDED),
            sqlite_where=text(_ENDED),
        ),
        Index(
            "jobs_ended",
            *("kind", "status", "created", "id"),
            postgresql_where=text(_ENDED),
            sqlite_where=text(_ENDED),
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
    #: The provider that answered, or was called last, and its name for the model.
    provider: str | None = Field(default=None, max_length=20)
    upstream_model: str | None = Field(default=None, max_length=256)
    #: SHA-256 of path and raw body, in hex; a retry finds its job by it.
    fingerprint: str = Field(max_length=64)
    body_bytes: int
    body_at: str = Field(max_length=10)
    attempts: int = 0
    #: The lease of the worker that runs it.
    worker: str | None = Field(default=None, max_length=64)
    cancel_requested: bool = False
    #: Whether its answer is streamed, and whether the stream ends with a chunk of usage.
    stream: bool = False
    include_usage: bool = False
    #: Whether it is cancelled when the client that waits for it disconnects.
    cancel_on_disconnect: bool = False
    #: A stream's last event number before its tail; 0 while it runs and has begun; else None.
    events: int | None = None
    #: Whether its caller got 202 and fetches the answer later.
    asynchronous: bool = False
    #: The batch that it belongs to, and the number of its line.
    batch_id: str | None = Field(default=None, max_length=40)
    line: int | None = None
    #: Receives a webhook when the job ends.
    webhook_url: str | None = Field(default=None, sa_column=Column(Text))
    #: The highest retry count among the SDK retries that joined it.
    joined: int = 0
    #: Whether it has an idempotency key, so that its answer is kept for retries.
    is_idempotent: bool = False
    #: When the client that waited for it disconnected; None once one waits again.
    left_at: float | None = None
    #: When its answer reached a client.
    handed_over_at: float | None = None

    created: float
    #: None while it waits for a concurrency slot; 0 once its worker is dead, to be recovered.
    enqueued_at: float | None = None
    started_at: float | None = None
    finished_at: float | None = None

    #: Credits.
    held: int = Field(sa_column=Column(BigInteger, nullable=False))
    charged: int | None = Field(default=None, sa_column=Column(BigInteger))
    #: The UTC day of its hold, in days since 1970, if its credits count towards its key's limits.
    key_day: int | None = None
    #: Maximum of output tokens of one choice, to which the upstream call is capped.
    max_tokens: int
    #: The number of answers or images to produce.
    total: int = 1
    price: str = Field(sa_column=Column(Text, nullable=False))
    usage: str | None = Field(default=None, sa_column=Column(Text))
    error: str | None = Field(default=None, sa_column=Column(Text))
    #: Each call to a provider, as JSON: which provider, when, how long, and the error if it failed.
    trail: str | None = Field(default=None, sa_column=Column(Text))


# Literals, since with bound values a database does not recognize the condition of a partial index
# and reads all jobs that the account ever had.
_LITERAL: dict[Status, Any] = {status: literal_column(f"'{status.value}'") for status in Status}
IS_QUEUED = col(Job.status) == _LITERAL[Status.QUEUED]
IS_IN_PROGRESS = col(Job.status) == _LITERAL[Status.IN_PROGRESS]
#: With `batch_id IS NULL`, the condition of the indexes of ended jobs, in the same order.
IS_ENDED = col(Job.status).in_(
    [
        _LITERAL[status]
        for status in (Status.COMPLETED, Status.FAILED, Status.CANCELLED, Status.EXPIRED)
    ]
)
IS_UNFINISHED = col(Job.status).in_([_LITERAL[Status.QUEUED], _LITERAL[Status.IN_PROGRESS]])


class Body(SQLModel, table=True):
    """A request body in SQL, as it must outlive Redis; kept until its job has ended."""

    __tablename__ = "bodies"
    __table_args__ = (Index("bodies_by_account", "account_id", "bytes"),)

    job_id: str = Field(primary_key=True, foreign_key="jobs.id", max_length=40)
    body: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    #: For the account's storage quota; None in rows that an earlier version inserted.
    account_id: int | None = None
    bytes: int | None = None


class StoredBody(SQLModel, table=True):
    """A request body in storage. Its row exists before the file and after it.

    So no file is orphaned, whenever a process dies.
    """

    __tablename__ = "stored_bodies"

    job_id: str = Field(primary_key=True, max_length=40)
    #: Unix seconds.
    created: float = Field(index=True)


class Idempotency(SQLModel, table=True):
    """The job that a caller's own idempotency key identifies, for retries to find it."""

    __tablename__ = "idempotency"

    key_id: int = Field(primary_key=True, foreign_key="keys.id")
    #: SHA-256 of the key that the caller sent, in hex.
    name: str = Field(primary_key=True, max_length=64)
    job_id: str = Field(foreign_key="jobs.id", max_length=40)
    created: float = Field(index=True)


class Result(SQLModel, table=True):
    """A finished job's answer as JSON bytes."""

    __tablename__ = "results"

    job_id: str = Field(primary_key=True, foreign_key="jobs.id", max_length=40)
    body: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    expires_at: float = Field(index=True)


def make_id() -> str:
    """Return a new job id, which cannot be guessed."""
    return f"job_{uuid.uuid4().hex}"
