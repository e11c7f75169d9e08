"""A worker's folder for what it works on: it goes with its worker, or with one that starts later.

A worker that is killed leaves it behind, with whatever images it had in hand.
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
#: A live worker touches its own all the time, also where it is another installation's, whose
#: leases nobody knows here.
OLD_SECONDS = 3600


def own() -> Path:
    """Return this worker's folder, which is made where it is not there."""
    folder = _own()
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _own() -> Path:
    return Path(tempfile.gettempdir(), PREFIX + this_worker.lease)


def touch() -> None:
    """Show that this worker's folder is in use."""
    with suppress(FileNotFoundError):
        os.utime(_own())


def remove_own() -> None:
    """Remove this worker's folder, and what its jobs left in it."""
    shutil.rmtree(_own(), ignore_errors=True)


def remove_left(live: Collection[str]) -> None:
    """Remove the folders that were left behind by workers none of which is among `live` leases."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        if folder.name.removeprefix(PREFIX) not in live and _is_old(folder):
            log.info("worker.folder_removed", folder=folder.name)
            shutil.rmtree(folder, ignore_errors=True)


def _is_old(folder: Path) -> bool:
    try:
        return time.time() - folder.stat().st_mtime > OLD_SECONDS
    except FileNotFoundError:
        return False  # Another worker was faster.
