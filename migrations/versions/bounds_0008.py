"""Bounds on what is kept and waits, and the indexes that let them be checked at every call.

Revision ID: 0008
Revises: 0007
"""

from typing import NamedTuple

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

QUEUED = "status = 'queued'"
WAITING = "next_at IS NOT NULL"
NOT_DONE = ("is_done = false", "is_done = 0")
NOT_STORED = ("is_stored = false", "is_stored = 0")
ENDED = "status IN ('completed', 'failed', 'cancelled', 'expired') AND batch_id IS NULL"


class NewIndex(NamedTuple):
    """An index, and its condition on PostgreSQL and, if that differs, on SQLite."""

    name: str
    table: str
    columns: list[str]
    where: str | None = None
    sqlite_where: str | None = None


INDEXES = (
    NewIndex(
        "jobs_waiting",
        "jobs",
        ["account_id", "body_bytes", "batch_id", "status"],
        f"{QUEUED} AND batch_id IS NULL",
    ),
    NewIndex("files_by_account", "files", ["account_id", "bytes"]),
    NewIndex(
        "batches_not_done_by_account",
        "batches",
        ["account_id", "input_file_id", "is_done"],
        *NOT_DONE,
    ),
    NewIndex("bodies_by_account", "bodies", ["account_id", "bytes"]),
    NewIndex("webhooks_due_by_account", "webhooks", ["account_id", "next_at"], WAITING),
    NewIndex("webhooks_waiting", "webhooks", ["account_id", "created", "next_at", "id"], WAITING),
    NewIndex("webhooks_expiring", "webhooks", ["expires_at", "next_at"], WAITING),
    NewIndex("webhooks_by_time", "webhooks", ["created"]),
    NewIndex("media_by_time", "media", ["created"]),
    NewIndex("media_unstored", "media", ["created"], *NOT_STORED),
    NewIndex("files_listed", "files", ["account_id", "created", "id"]),
    NewIndex("files_unstored", "files", ["created"], *NOT_STORED),
    NewIndex("jobs_left", "jobs", ["left_at"], f"{QUEUED} AND left_at IS NOT NULL"),
    NewIndex(
        "jobs_ended_by_account", "jobs", ["account_id", "kind", "status", "created", "id"], ENDED
    ),
    NewIndex("jobs_ended", "jobs", ["kind", "status", "created", "id"], ENDED),
)


def upgrade() -> None:
    with op.batch_alter_table("bodies", schema=None) as batch_op:
        batch_op.add_column(sa.Column("account_id", sa.Integer()))
        batch_op.add_column(sa.Column("bytes", sa.Integer()))
    with op.batch_alter_table("webhooks", schema=None) as batch_op:
        batch_op.add_column(sa.Column("expires_at", sa.Float()))
    op.create_table(
        "stored_bodies",
        sa.Column("job_id", sa.String(40), primary_key=True),
        sa.Column("created", sa.Float(), nullable=False),
    )
    op.create_index("ix_stored_bodies_created", "stored_bodies", ["created"])
    for index in INDEXES:
        on_sqlite = index.sqlite_where or index.where
        op.create_index(
            index.name,
            index.table,
            index.columns,
            postgresql_where=sa.text(index.where) if index.where else None,
            sqlite_where=sa.text(on_sqlite) if on_sqlite else None,
        )


def downgrade() -> None:
    for index in INDEXES:
        op.drop_index(index.name, index.table)
    op.drop_table("stored_bodies")
    with op.batch_alter_table("webhooks", schema=None) as batch_op:
        batch_op.drop_column("expires_at")
    with op.batch_alter_table("bodies", schema=None) as batch_op:
        batch_op.drop_column("bytes")
        batch_op.drop_column("account_id")
