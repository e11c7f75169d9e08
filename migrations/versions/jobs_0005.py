"""Jobs that outlive their calls, and the columns by which retries find them.

Revision ID: 0005
Revises: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

UNFINISHED = sa.text("status IN ('queued', 'in_progress')")


def upgrade() -> None:
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.add_column(
            sa.Column("asynchronous", sa.Boolean(), nullable=False, server_default=sa.false())
        )
        batch_op.add_column(sa.Column("webhook_url", sa.Text()))
        batch_op.add_column(sa.Column("joined", sa.Integer(), nullable=False, server_default="0"))
        batch_op.add_column(
            sa.Column("is_idempotent", sa.Boolean(), nullable=False, server_default=sa.false())
        )
    op.create_index("jobs_by_fingerprint", "jobs", ["key_id", "fingerprint", "created"])
    op.create_index(
        "jobs_unfinished",
        "jobs",
        ["account_id", "enqueued_at"],
        postgresql_where=UNFINISHED,
        sqlite_where=UNFINISHED,
    )
    op.create_table(
        "bodies",
        sa.Column("job_id", sa.String(40), sa.ForeignKey("jobs.id"), primary_key=True),
        sa.Column("body", sa.LargeBinary(), nullable=False),
    )
    op.create_table(
        "idempotency",
        sa.Column("key_id", sa.Integer(), sa.ForeignKey("keys.id"), primary_key=True),
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("job_id", sa.String(40), sa.ForeignKey("jobs.id"), nullable=False),
        sa.Column("created", sa.Float(), nullable=False),
    )
    op.create_index("ix_idempotency_created", "idempotency", ["created"])


def downgrade() -> None:
    op.drop_table("idempotency")
    op.drop_table("bodies")
    op.drop_index("jobs_unfinished", "jobs")
    op.drop_index("jobs_by_fingerprint", "jobs")
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        for column in ("is_idempotent", "joined", "webhook_url", "asynchronous"):
            batch_op.drop_column(column)
