"""Alembic's environment: runs all migrations in one transaction, one process at a time."""

import sqlalchemy
from alembic import context
from sqlmodel import SQLModel

from models.account import Account, Key
from models.batch import Batch, BatchLine
from models.credit import Entry
from models.file import File
from models.job import Body, Idempotency, Job, Result, StoredBody
from models.lease import Lease
from models.media import Media
from models.provider_call import ProviderCall
from models.webhook import Webhook

#: The number of the advisory lock on PostgreSQL; any will do, if all processes use the same.
LOCK = 7_203_114

TABLES = (
    *(
        Account,
        Key,
        Job,
        Body,
        StoredBody,
        Idempotency,
        Result,
        Entry,
        Lease,
    ),
    *(Media, ProviderCall, Webhook),
    *(File, Batch, BatchLine),
)


def run() -> None:
    engine = context.config.attributes["engine"]
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(sqlalchemy.text(f"SELECT pg_advisory_xact_lock({LOCK})"))
        context.configure(
            connection=connection, target_metadata=SQLModel.metadata, render_as_batch=True
        )
        context.run_migrations()


run()
