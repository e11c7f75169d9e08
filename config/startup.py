"""Checks and limits at the start of a web process or worker."""

import resource

from config.settings import settings


def raise_open_files() -> None:
    """Raise this process's soft limit of open files to the hard one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def check() -> None:
    """Exit with a message if this machine's disk must not hold state, but would."""
    if problem := settings.local_state_problem():
        raise SystemExit(f"likedo: {problem}")
