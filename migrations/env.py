"""What Alembic runs: every migration in one transaction, by one process at a time."""

import sqlalchemy
from alembic import context
from sqlmodel import SQLModel

from models import account, batch, credit, file, job, media, shot, webhook, worker

#: Any number, the same for every process: it names the lock on PostgreSQL.
LOCK = 7_203_114

TABLES = (
    *(
        account.Account,
        account.Key,
        job.Job,
        job.Body,
        job.Idempotency,
        job.Result,
        credit.Entry,
        worker.Lease,
    ),
    *(media.Media, shot.Shot, webhook.Webhook),
    *(file.File, batch.Batch, batch.BatchLine),
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
