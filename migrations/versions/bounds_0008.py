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
NOT_DONE_POSTGRESQL, NOT_DONE_SQLITE = "is_done = false", "is_done = 0"


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
        NOT_DONE_POSTGRESQL,
        NOT_DONE_SQLITE,
    ),
    NewIndex("bodies_by_account", "bodies", ["account_id", "bytes"]),
)


def upgrade() -> None:
    with op.batch_alter_table("bodies", schema=None) as batch_op:
        batch_op.add_column(sa.Column("account_id", sa.Integer()))
        batch_op.add_column(sa.Column("bytes", sa.Integer()))
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
    with op.batch_alter_table("bodies", schema=None) as batch_op:
        batch_op.drop_column("bytes")
        batch_op.drop_column("account_id")
