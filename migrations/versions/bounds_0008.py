"""Bounds on what is kept and waits, and the indexes that let them be checked at every call.

Revision ID: 0008
Revises: 0007
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

#: Partial and other indexes: name, table, columns, condition.
INDEXES = (
    (
        "jobs_waiting",
        "jobs",
        ["account_id", "body_bytes", "batch_id", "status"],
        "status = 'queued' AND batch_id IS NULL",
    ),
)


def upgrade() -> None:
    for name, table, columns, where in INDEXES:
        condition = sa.text(where) if where else None
        op.create_index(name, table, columns, postgresql_where=condition, sqlite_where=condition)


def downgrade() -> None:
    for name, table, _, _ in INDEXES:
        op.drop_index(name, table)
