"""The worker process: `python worker.py`, any number of them, on any number of machines."""

# ruff: noqa: E402  # gevent patches before anything is imported that it patches
from gevent import monkey

monkey.patch_all()

from config import connections, limits, start
from config.settings import settings
from jobs import chat, image  # noqa: F401  # RQ finds its functions by name; they are loaded up front
from jobs.worker_class import GreenletWorker
from ops import logs


def main() -> None:
    """Work until told to stop."""
    start.check()
    logs.configure()
    limits.raise_open_files()
    kinds = {
        "chat": settings.worker_concurrency,
        "image": settings.image_concurrency,
        # Nobody waits for these.
        "batch": max(1, settings.image_concurrency // 2),
    }
    GreenletWorker(kinds, settings.worker_concurrency, connections.connection()).work()


if __name__ == "__main__":
    main()
