"""What is checked before a web process or a worker starts."""

from config.settings import settings


def check() -> None:
    """Leave, saying which line to set, where this machine's disk may not hold what it would."""
    if problem := settings.local_state_problem():
        raise SystemExit(f"likedo: {problem}")
