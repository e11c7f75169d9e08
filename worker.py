"""The worker process: `python worker.py`, any number of them, on any number of machines."""

# ruff: noqa: E402  # gevent patches before anything is imported that it patches
from gevent import monkey

monkey.patch_all()

from config import redis as redis_config
from config import startup
from config.settings import settings
from jobs import kinds as jobs_kinds
from jobs.worker.greenlet_worker import GreenletWorker
from ops import logs


def main() -> None:
    """Work until told to stop."""
    startup.check()
    logs.configure()
    startup.raise_open_files()
    GreenletWorker(_queues(), settings.worker_concurrency, redis_config.connection()).work()


def _queues() -> dict[str, int]:
    """Return the queues, each with the most jobs of it that may run at once."""
    kinds = {"chat": settings.worker_concurrency, "image": settings.image_concurrency}
    lines = {jobs_kinds.line_queue_of(kind): max(1, most // 4) for kind, most in kinds.items()}
    # Nobody waits for these.
    return kinds | lines | {"batch": max(1, settings.image_concurrency // 2)}


if __name__ == "__main__":
    main()
