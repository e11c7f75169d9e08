"""The outbox of webhooks, and the secret that signs an account's.

Revision ID: 0006
Revises: 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

DUE = sa.text("next_at IS NOT NULL")


def upgrade() -> None:
    with op.batch_alter_table("accounts", schema=None) as batch_op:
        batch_op.add_column(sa.Column("webhook_secret", sa.String(64)))
    op.create_table(
        "webhooks",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("account_id", sa.Integer(), sa.ForeignKey("accounts.id"), nullable=False),
        sa.Column("job_id", sa.String(40), sa.ForeignKey("jobs.id"), nullable=False),
        sa.Column("type", sa.String(20), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary()),
        sa.Column("created", sa.Float(), nullable=False),
        sa.Column("next_at", sa.Float()),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("delivered_at", sa.Float()),
        sa.Column("gave_up_at", sa.Float()),
        sa.Column("last_error", sa.Text()),
    )
    op.create_index("webhooks_due", "webhooks", ["next_at"], postgresql_where=DUE, sqlite_where=DUE)
    op.create_index("webhooks_by_account", "webhooks", ["account_id", "created"])
    op.create_index("ix_webhooks_job_id", "webhooks", ["job_id"])


def downgrade() -> None:
    op.drop_table("webhooks")
    with op.batch_alter_table("accounts", schema=None) as batch_op:
        batch_op.drop_column("webhook_secret")
