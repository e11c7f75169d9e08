"""A worker's lease in SQL: opened, renewed and closed by the worker, ended by maintenance."""

import os
import socket
from collections.abc import Collection

from sqlalchemy import delete, insert, select, update
from sqlmodel import col

import database
from database.clock import now
from models.job import IS_IN_PROGRESS, Job, Status
from models.lease import LEASE_SECONDS, Lease


def open(name: str, capacity: int) -> None:
    """Insert a new lease, renewed just now."""
    lease = {
        "name": name,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "capacity": capacity,
        "running": 0,
        "started_at": now(),
        "last_seen": now(),
    }
    database.execute(insert(Lease).values(**lease))


def renew(name: str, capacity: int, running: int) -> bool:
    """Renew a lease by the database's clock; return False if there is none (any more)."""
    return bool(
        database.execute(
            update(Lease)
            .where(col(Lease.name) == name)
            .values(last_seen=now(), running=running, capacity=capacity)
        )
    )


def close(name: str) -> None:
    """Delete a lease whose jobs have all ended or gone back to the queue."""
    database.execute(delete(Lease).where(col(Lease.name) == name))


class _HeldJob:
    id: str
    cancel_requested: bool


def jobs_under(name: str) -> dict[str, bool]:
    """Return the unfinished jobs under a lease: by id, whether cancelling was requested."""
    query = select(col(Job.id), col(Job.cancel_requested)).where(
        col(Job.worker) == name, IS_IN_PROGRESS
    )
    return {job.id: job.cancel_requested for job in database.all(query, _HeldJob)}


def requeue_orphans(name: str, job_ids: Collection[str]) -> None:
    """Queue jobs under a lease that its worker does not run, for maintenance to recover them."""
    database.execute(
        update(Job)
        .where(col(Job.id).in_(job_ids), col(Job.worker) == name, IS_IN_PROGRESS)
        .values(status=Status.QUEUED.value, worker=None, enqueued_at=0)
    )


def live() -> list[Lease]:
    """Return the leases that have not expired, the oldest first."""
    return database.all(
        select(database.table(Lease))
        .where(now() - col(Lease.last_seen) < LEASE_SECONDS)
        .order_by(col(Lease.started_at)),
        Lease,
    )
