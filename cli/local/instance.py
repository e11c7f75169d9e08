"""The one `likedo up` that may run on this state folder, and how other commands find it.

A file stays locked as long as that process or one of its children lives. It holds the process id
and the addresses.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import orjson

from cli.local import address
from config.settings import settings

#: The children of a killed instance end by themselves within this time.
ORPHAN_SECONDS = 30
RETRY_SECONDS = 0.1


@dataclass(frozen=True)
class Instance:
    """A running `likedo up`."""

    pid: int
    #: The URL of its web process.
    address: str
    #: The URL of its Redis, for other commands on this machine.
    redis_url: str


def _path() -> Path:
    return settings.var_dir / "up.lock"


@contextmanager
def claimed() -> Iterator[int]:
    """Lock the state folder for the length of the block; yield the lock, which children inherit.

    Raises `click.ClickException` if another instance runs here.
    """
    settings.var_dir.mkdir(parents=True, exist_ok=True)
    lock = os.open(_path(), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _wait_for(lock)
        record(lock)
        yield lock
    finally:
        os.close(lock)


def record(lock: int) -> None:
    """Write this process's id and the addresses in the settings into the lock file."""
    instance = Instance(os.getpid(), address.url(), settings.redis_url)
    os.ftruncate(lock, 0)
    os.pwrite(lock, orjson.dumps(asdict(instance)), 0)


def _wait_for(lock: int) -> None:
    """Lock the file; raise if an instance is running, and wait for the children of a killed one."""
    end = time.monotonic() + ORPHAN_SECONDS
    while not _take(lock, fcntl.LOCK_EX):
        other = _read(lock)
        if other is not None and _is_alive(other.pid):
            raise click.ClickException(
                f"LikeDo is already running here (pid {other.pid}, {other.address}). Use that "
                f"one, or stop it first: kill {other.pid}"
            )
        if time.monotonic() > end:
            raise click.ClickException(
                "Processes of an earlier `likedo up`, which was killed, still run here. End its "
                "gunicorn, worker.py and valkey-server, and start again."
            )
        time.sleep(RETRY_SECONDS)


def running() -> Instance | None:
    """Return the instance that runs here, or None."""
    try:
        lock = os.open(_path(), os.O_RDONLY)
    except OSError:
        return None
    try:
        return None if _take(lock, fcntl.LOCK_SH) else _read(lock)
    finally:
        os.close(lock)


def use_its_redis() -> None:
    """Use the Redis of the instance that runs here, unless the environment sets another."""
    if "redis_url" in settings.model_fields_set:
        return
    if instance := running():
        settings.redis_url = instance.redis_url


def _take(lock: int, kind: int) -> bool:
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(lock: int) -> Instance | None:
    try:
        return Instance(**orjson.loads(os.pread(lock, 4096, 0)))
    except (orjson.JSONDecodeError, TypeError):
        return None


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
