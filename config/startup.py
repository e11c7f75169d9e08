"""What is checked and set when a web process or a worker starts."""

import resource

from config.settings import settings


def raise_open_files() -> None:
    """Raise this process's soft limit of open files to the hard one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def check() -> None:
    """Leave, saying which line to set, where this machine's disk may not hold what it would."""
    if problem := settings.local_state_problem():
        raise SystemExit(f"likedo: {problem}")
