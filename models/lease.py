"""A worker's lease: while it is renewed, the jobs under its name are being run."""

from sqlmodel import Field, SQLModel

#: How often a worker renews its lease.
RENEWAL_SECONDS = 3
#: A lease not renewed for this long has expired, and its jobs are taken from the worker.
LEASE_SECONDS = 15


class Lease(SQLModel, table=True):
    """One live worker process. Times are Unix seconds by the database's clock."""

    __tablename__ = "leases"

    name: str = Field(primary_key=True, max_length=64)
    host: str = Field(max_length=255)
    pid: int
    capacity: int
    running: int = 0
    started_at: float
    last_seen: float
