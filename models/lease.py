"""A worker's lease: the promise that the jobs under its name are being worked on."""

from sqlmodel import Field, SQLModel

#: A worker renews its lease this often.
RENEWAL_SECONDS = 3
#: A lease not renewed for this long is over, and its jobs are taken from the worker.
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
