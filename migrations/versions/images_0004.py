"""Stored images, and the provider calls that made them.

Revision ID: 0004
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.add_column(sa.Column("total", sa.Integer(), nullable=False, server_default="1"))
    op.create_table(
        "media",
        sa.Column("name", sa.String(60), primary_key=True),
        sa.Column("account_id", sa.Integer(), sa.ForeignKey("accounts.id"), nullable=False),
        sa.Column("job_id", sa.String(40), sa.ForeignKey("jobs.id"), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("is_stored", sa.Boolean(), nullable=False),
        sa.Column("media_type", sa.String(20), nullable=False),
        sa.Column("bytes", sa.Integer(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("revised_prompt", sa.String()),
        sa.Column("created", sa.Float(), nullable=False),
        sa.Column("expires", sa.Float(), nullable=False),
    )
    for column in ("account_id", "job_id", "expires"):
        op.create_index(f"ix_media_{column}", "media", [column])
    op.create_table(
        "shots",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("job_id", sa.String(40), sa.ForeignKey("jobs.id"), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("images", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(10), nullable=False),
        sa.Column("model", sa.String(256), nullable=False),
        sa.Column("provider", sa.String(20), nullable=False),
        sa.Column("upstream_model", sa.String(256), nullable=False),
        sa.Column("key_id", sa.String(12), nullable=False),
        sa.Column("started", sa.String(256)),
        sa.Column("errors", sa.Text()),
        sa.Column("usage", sa.Text()),
        sa.UniqueConstraint("job_id", "place"),
    )
    op.create_index("ix_shots_job_id", "shots", ["job_id"])


def downgrade() -> None:
    op.drop_table("shots")
    op.drop_table("media")
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.drop_column("total")
