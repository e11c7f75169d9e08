"""What a key may be used for, and what it has spent.

Revision ID: 0009
Revises: 0008
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

LIMITS = (
    ("models", sa.Text()),
    ("addresses", sa.Text()),
    ("requests_per_hour", sa.Integer()),
    ("credit_limit", sa.BigInteger()),
    ("daily_limit", sa.BigInteger()),
)
COUNTS = (
    ("spent", sa.BigInteger()),
    ("spent_day", sa.Integer()),
    ("spent_on_day", sa.BigInteger()),
)


def upgrade() -> None:
    with op.batch_alter_table("keys", schema=None) as batch_op:
        for name, kind in LIMITS:
            batch_op.add_column(sa.Column(name, kind))
        for name, kind in COUNTS:
            batch_op.add_column(sa.Column(name, kind, nullable=False, server_default="0"))
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.add_column(sa.Column("key_day", sa.Integer()))


def downgrade() -> None:
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.drop_column("key_day")
    with op.batch_alter_table("keys", schema=None) as batch_op:
        for name, _ in (*COUNTS, *LIMITS):
            batch_op.drop_column(name)
