"""A batch: a file of requests, run as capacity allows, and the files of its answers."""

import uuid
from collections.abc import Collection
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import Field as Rule
from pydantic import ValidationInfo, field_validator
from sqlalchemy import BigInteger, Column, Index, Integer, Text, text
from sqlmodel import Field, SQLModel

from models import checks
from models.checks import Strict

MAX_LINES = 50_000
#: Lines that have not begun within it expire.
COMPLETION_WINDOW_SECONDS = 24 * 3600
MAX_CUSTOM_ID_CHARACTERS = 512


class BatchStatus(StrEnum):
    VALIDATING = "validating"
    FAILED = "failed"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    EXPIRED = "expired"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"


#: Statuses that a batch never leaves.
FINAL = frozenset(
    {BatchStatus.FAILED, BatchStatus.COMPLETED, BatchStatus.EXPIRED, BatchStatus.CANCELLED}
)


class Batch(SQLModel, table=True):
    """A batch's record, kept for good. Times are Unix seconds.

    `errors`, `rest` and `caller_metadata` are JSON texts.
    """

    __tablename__ = "batches"
    __table_args__ = (
        Index("batches_by_account", "account_id", "created"),
        Index("batches_by_fingerprint", "key_id", "fingerprint", "created"),
        Index(
            "batches_not_done",
            "created",
            postgresql_where=text("is_done = false"),
            sqlite_where=text("is_done = 0"),
        ),
        Index(
            "batches_not_done_by_account",
            *("account_id", "input_file_id", "is_done"),
            postgresql_where=text("is_done = false"),
            sqlite_where=text("is_done = 0"),
        ),
    )

    id: str = Field(primary_key=True, max_length=40)
    account_id: int = Field(foreign_key="accounts.id")
    key_id: int = Field(foreign_key="keys.id")
    endpoint: str = Field(max_length=40)
    #: The kind of jobs that its lines become.
    kind: str = Field(max_length=10)
    input_file_id: str = Field(max_length=40, index=True)
    output_file_id: str | None = Field(default=None, max_length=40)
    error_file_id: str | None = Field(default=None, max_length=40)
    #: How long these two files are kept.
    output_seconds: int
    status: str = Field(default=BatchStatus.VALIDATING, max_length=12)
    errors: str | None = Field(default=None, sa_column=Column(Text))
    caller_metadata: str | None = Field(default=None, sa_column=Column(Text))
    #: The base URL of the request that created it; links in its answers begin with it.
    address: str = Field(sa_column=Column(Text, nullable=False))

    #: A retry finds it by SHA-256, in hex, of path and raw body or of the caller's own idempotency
    #: key. `joined`: the highest retry count among the SDK retries that joined it.
    fingerprint: str = Field(max_length=64)
    name: str | None = Field(default=None, max_length=64)
    joined: int = 0

    created: float
    in_progress_at: float | None = None
    expires_at: float
    finalizing_at: float | None = None
    completed_at: float | None = None
    failed_at: float | None = None
    expired_at: float | None = None
    cancelling_at: float | None = None
    cancelled_at: float | None = None

    #: Numbers of lines: all, dispatched (became jobs, or failed to), completed, failed.
    total: int = 0
    fed: int = 0
    completed: int = 0
    failed: int = 0
    #: Why the lines after `fed` will not run, if so: `{"code", "message"}`.
    rest: str | None = Field(default=None, sa_column=Column(Text))

    #: The lease of the worker that owns it.
    worker: str | None = Field(default=None, max_length=64)
    #: Whether it has ended and nothing of it is left to clean up.
    is_done: bool = False


class BatchLine(SQLModel, table=True):
    """One request of an unfinished batch: its location in the input file, and its outcome."""

    __tablename__ = "batch_lines"
    __table_args__ = (
        Index(
            "batch_lines_running",
            "batch_id",
            "number",
            postgresql_where=text("job_id IS NOT NULL AND outcome IS NULL"),
            sqlite_where=text("job_id IS NOT NULL AND outcome IS NULL"),
        ),
    )

    batch_id: str = Field(primary_key=True, foreign_key="batches.id", max_length=40)
    #: From 1.
    number: int = Field(
        sa_column=Column(Integer, primary_key=True, autoincrement=False, nullable=False)
    )
    custom_id: str = Field(max_length=MAX_CUSTOM_ID_CHARACTERS)
    #: Offset and length in bytes within the input file.
    start: int = Field(sa_column=Column(BigInteger, nullable=False))
    length: int
    #: The job that it became, if it has.
    job_id: str | None = Field(default=None, max_length=40, index=True)
    #: `completed` or `failed`, once it has ended.
    outcome: str | None = Field(default=None, max_length=10)
    #: Why it became no job: `{"code", "message"}` as JSON.
    error: str | None = Field(default=None, sa_column=Column(Text))


class ExpiresAfter(Strict):
    """How long a file is kept."""

    anchor: Literal["created_at"]
    seconds: Annotated[int, Rule(ge=3600, le=30 * 24 * 3600)]


class BatchRequest(Strict):
    """A request for a batch. The field names are OpenAI's."""

    input_file_id: Annotated[str, Rule(min_length=1, max_length=100)]
    endpoint: str
    completion_window: str
    metadata: Annotated[dict[str, str], checks.StopsEarly] | None = None
    output_expires_after: ExpiresAfter | None = None

    @classmethod
    def read(cls, body: Any, endpoints: Collection[str]) -> Self:
        """Return the request in `body`, decoded JSON; raise the most precise `InvalidRequest`.

        `endpoints`: those that a batch can have.
        """
        return checks.read(cls, body, '{"input_file_id": …, "endpoint": …, …}', endpoints)

    @field_validator("endpoint")
    @classmethod
    def _check_endpoint(cls, endpoint: str, info: ValidationInfo) -> str:
        endpoints: Collection[str] = info.context or ()
        if endpoint not in endpoints:
            raise ValueError(f"it must be one of {', '.join(map(repr, endpoints))}")
        return endpoint

    @field_validator("completion_window")
    @classmethod
    def _check_window(cls, window: str) -> str:
        if window != "24h":
            raise ValueError("it must be '24h'")
        return window

    @field_validator("metadata")
    @classmethod
    def _check_metadata(cls, metadata: dict[str, str] | None) -> dict[str, str] | None:
        if metadata and (
            len(metadata) > 16 or any(len(k) > 64 or len(v) > 512 for k, v in metadata.items())
        ):
            raise ValueError(
                "it may have 16 keys of up to 64 characters, with values of up to 512 characters"
            )
        return metadata


def make_id() -> str:
    """Return a new batch id, which cannot be guessed."""
    return f"batch_{uuid.uuid4().hex}"
