"""Files that nobody else on the machine can read: they hold prompts, answers and secrets."""

import os
from collections.abc import Iterator
from pathlib import Path

from config.settings import settings

#: Takes every right from the group and from others.
UMASK = 0o077


def keep() -> None:
    """Make what this process creates private, and what it finds of an earlier version."""
    os.umask(UMASK)
    for path in (settings.var_dir, *_database()):
        _mend(path)


def _database() -> Iterator[Path]:
    """Yield the files of SQLite; nothing for a database that is on no disk of ours."""
    if settings.uses_sqlite:
        name = settings.sql_url.removeprefix("sqlite:///").partition("?")[0]
        yield from (Path(name + suffix) for suffix in ("", "-wal", "-shm", "-turn"))


def _mend(path: Path) -> None:
    """Take the rights of others from a file, or from a folder and what is in it.

    A folder that was private already, but for the state folder itself, is not looked into: nobody
    can reach what is there, and there may be a million images.
    """
    try:
        mode = path.stat().st_mode
        was_open = bool(mode & UMASK)
        if path.is_dir() and (was_open or path == settings.var_dir):
            for entry in os.scandir(path):
                if not entry.is_symlink():
                    _mend(Path(entry.path))
        if was_open:
            # Last, so that a process that is killed before begins anew at the next start.
            path.chmod(mode & 0o777 & ~UMASK)
    except OSError:
        return  # It is not there, or not ours to change.
