"""Checks and limits at the start of a web process or worker."""

import resource

import structlog

from config import private_files
from config.redis import pool
from config.settings import settings

log = structlog.get_logger()


def raise_open_files() -> None:
    """Raise this process's soft limit of open files to the hard one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def check() -> None:
    """Exit with a message if this disk must not hold state; keep private what it holds."""
    if problem := settings.local_state_problem():
        raise SystemExit(f"likedo: {problem}")
    private_files.keep()


def log_redis() -> None:
    """Log which Redis is used if no setting names it, and warn of one that lets everybody in."""
    options = pool().connection_kwargs
    if "redis_url" not in settings.model_fields_set:
        log.warning(
            "redis.default_used", address=settings.redis_url, reason="REDIS_URL is not set."
        )
    host = options.get("host", "localhost")
    is_here = host in ("localhost", "::1") or host.startswith("127.")
    if not (is_here or options.get("password") or options.get("ssl_certfile")):
        log.warning("redis.without_password", host=host, reason="Anyone who reaches it is let in.")
