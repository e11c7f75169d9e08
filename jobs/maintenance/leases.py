"""A worker's lease in SQL: opened, renewed and closed by the worker, ended by upkeep."""

import os
import socket
from collections.abc import Collection
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update
from sqlmodel import col

import database
from database.clock import now
from models.job import IS_IN_PROGRESS, Job, Status
from models.lease import LEASE_SECONDS, Lease


def open_lease(name: str, capacity: int) -> None:
    """Write a new lease, from now."""
    lease = {
        "name": name,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "capacity": capacity,
        "running": 0,
        "started_at": now(),
        "last_seen": now(),
    }
    database.run(lambda connection: connection.execute(insert(Lease).values(**lease)) and None)


def renew(name: str, capacity: int, running: int) -> bool:
    """Renew a lease by the database's clock; False where it is not there (any more)."""

    def work(connection: Connection) -> bool:
        renewed = connection.execute(
            update(Lease)
            .where(col(Lease.name) == name)
            .values(last_seen=now(), running=running, capacity=capacity)
        )
        return bool(renewed.rowcount)

    return database.run(work)


def close_lease(name: str) -> None:
    """End a lease whose jobs have all ended or gone back to the queue."""
    database.run(
        lambda connection: connection.execute(delete(Lease).where(col(Lease.name) == name)) and None
    )


def jobs_under(name: str) -> dict[str, bool]:
    """Return the unfinished jobs under a lease, and of each whether it was asked to cancel."""

    def work(connection: Connection) -> dict[str, bool]:
        query = select(col(Job.id), col(Job.cancel_requested)).where(
            col(Job.worker) == name, IS_IN_PROGRESS
        )
        return {row.id: row.cancel_requested for row in connection.execute(query)}

    return database.run(work)


def give_up(name: str, job_ids: Collection[str]) -> None:
    """Put jobs under a lease, that its worker does not work on, where lost rows are found."""

    def work(connection: Connection) -> None:
        connection.execute(
            update(Job)
            .where(
                col(Job.id).in_(job_ids),
                col(Job.worker) == name,
                IS_IN_PROGRESS,
            )
            .values(status=Status.QUEUED.value, worker=None, enqueued_at=0)
        )

    database.run(work)


def live() -> list[Row[Any]]:
    """Return the leases that are not over, as rows, with `seconds` since each was renewed."""

    def work(connection: Connection) -> list[Row[Any]]:
        age = (now() - col(Lease.last_seen)).label("age")
        query = select(database.table(Lease), age).where(
            now() - col(Lease.last_seen) < LEASE_SECONDS
        )
        return list(connection.execute(query.order_by(col(Lease.started_at))))

    return database.run(work)
