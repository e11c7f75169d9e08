"""A worker's temporary folder: removed by its worker, or by one that starts later.

A worker that is killed leaves it behind, with whatever images it was working on.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

import structlog

from jobs.worker.in_flight import this_worker

log = structlog.get_logger()

PREFIX = "likedo-worker-"
#: A live worker touches its folder all the time; so does one of another installation, whose leases
#: are unknown here.
STALE_SECONDS = 3600


def folder() -> Path:
    """Return this worker's folder; make it if it is not there."""
    path = _path()
    path.mkdir(mode=0o700, exist_ok=True)
    return path


def _path() -> Path:
    return Path(tempfile.gettempdir(), PREFIX + this_worker.lease)


def touch() -> None:
    """Show that this worker's folder is in use."""
    with suppress(FileNotFoundError):
        os.utime(_path())


def remove() -> None:
    """Remove this worker's folder, and what its jobs left in it."""
    shutil.rmtree(_path(), ignore_errors=True)


def remove_stale(live: Collection[str]) -> None:
    """Remove the folders left behind by workers whose leases are not among `live`."""
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        if path.name.removeprefix(PREFIX) not in live and _is_stale(path):
            log.info("worker.folder_removed", folder=path.name)
            shutil.rmtree(path, ignore_errors=True)


def _is_stale(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime > STALE_SECONDS
    except FileNotFoundError:
        return False  # Another worker has removed it.
