"""Files, batches and their lines.

Revision ID: 0007
Revises: 0006
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

QUEUED = sa.text("status = 'queued'")
UNFINISHED = sa.text("status IN ('queued', 'in_progress')")
RUNNING = sa.text("job_id IS NOT NULL AND outcome IS NULL")


def upgrade() -> None:
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.add_column(sa.Column("batch_id", sa.String(40)))
        batch_op.add_column(sa.Column("line", sa.Integer()))
    _index_jobs("batch_id")
    op.create_table(
        "files",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("account_id", sa.Integer(), sa.ForeignKey("accounts.id"), nullable=False),
        sa.Column("purpose", sa.String(20), nullable=False),
        sa.Column("filename", sa.String(255), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("is_stored", sa.Boolean(), nullable=False),
        sa.Column("created", sa.Float(), nullable=False),
        sa.Column("expires", sa.Float(), nullable=False),
    )
    for column in ("account_id", "expires"):
        op.create_index(f"ix_files_{column}", "files", [column])
    _create_batches()
    op.create_table(
        "batch_lines",
        sa.Column("batch_id", sa.String(40), sa.ForeignKey("batches.id"), primary_key=True),
        sa.Column("number", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("custom_id", sa.String(512), nullable=False),
        sa.Column("start", sa.BigInteger(), nullable=False),
        sa.Column("length", sa.Integer(), nullable=False),
        sa.Column("job_id", sa.String(40)),
        sa.Column("outcome", sa.String(10)),
        sa.Column("error", sa.Text()),
    )
    op.create_index("ix_batch_lines_job_id", "batch_lines", ["job_id"])
    op.create_index(
        "batch_lines_running",
        "batch_lines",
        ["batch_id", "number"],
        postgresql_where=RUNNING,
        sqlite_where=RUNNING,
    )


def _create_batches() -> None:
    op.create_table(
        "batches",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("account_id", sa.Integer(), sa.ForeignKey("accounts.id"), nullable=False),
        sa.Column("key_id", sa.Integer(), sa.ForeignKey("keys.id"), nullable=False),
        sa.Column("endpoint", sa.String(40), nullable=False),
        sa.Column("kind", sa.String(10), nullable=False),
        sa.Column("input_file_id", sa.String(40), nullable=False),
        sa.Column("output_file_id", sa.String(40)),
        sa.Column("error_file_id", sa.String(40)),
        sa.Column("output_seconds", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(12), nullable=False),
        sa.Column("errors", sa.Text()),
        sa.Column("caller_metadata", sa.Text()),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("name", sa.String(64)),
        sa.Column("joined", sa.Integer(), nullable=False),
        sa.Column("created", sa.Float(), nullable=False),
        sa.Column("in_progress_at", sa.Float()),
        sa.Column("expires_at", sa.Float(), nullable=False),
        sa.Column("finalizing_at", sa.Float()),
        sa.Column("completed_at", sa.Float()),
        sa.Column("failed_at", sa.Float()),
        sa.Column("expired_at", sa.Float()),
        sa.Column("cancelling_at", sa.Float()),
        sa.Column("cancelled_at", sa.Float()),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("fed", sa.Integer(), nullable=False),
        sa.Column("completed", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.Column("rest", sa.Text()),
        sa.Column("worker", sa.String(64)),
        sa.Column("is_done", sa.Boolean(), nullable=False),
    )
    op.create_index("batches_by_account", "batches", ["account_id", "created"])
    op.create_index("batches_by_fingerprint", "batches", ["key_id", "fingerprint", "created"])
    op.create_index("ix_batches_input_file_id", "batches", ["input_file_id"])
    op.create_index(
        "batches_not_done",
        "batches",
        ["created"],
        postgresql_where=sa.text("is_done = false"),
        sqlite_where=sa.text("is_done = 0"),
    )


def _index_jobs(*more: str) -> None:
    """Recreate the indexes that count waiting and running jobs, with `more` columns."""
    for name, columns, where in (
        ("jobs_queued", ["created", "body_bytes", *more], QUEUED),
        ("jobs_unfinished", ["account_id", "enqueued_at", *more], UNFINISHED),
    ):
        op.drop_index(name, "jobs")
        op.create_index(name, "jobs", columns, postgresql_where=where, sqlite_where=where)


def downgrade() -> None:
    op.drop_table("batch_lines")
    op.drop_table("batches")
    op.drop_table("files")
    _index_jobs()
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.drop_column("line")
        batch_op.drop_column("batch_id")
