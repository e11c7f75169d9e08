"""What Alembic runs: every migration in one transaction, by one process at a time."""

import sqlalchemy
from alembic import context
from sqlmodel import SQLModel

from models.account import Account, Key
from models.batch import Batch, BatchLine
from models.credit import Entry
from models.file import File
from models.job import Body, Idempotency, Job, Result
from models.lease import Lease
from models.media import Media
from models.provider_call import ProviderCall
from models.webhook import Webhook

#: Any number, the same for every process: it names the lock on PostgreSQL.
LOCK = 7_203_114

TABLES = (
    *(
        Account,
        Key,
        Job,
        Body,
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
