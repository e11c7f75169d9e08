"""The worker process: `python worker.py`, any number of them, on any number of machines."""

# ruff: noqa: E402  # gevent patches before anything is imported that it patches
from gevent import monkey

monkey.patch_all()

from config import connections, limits, start
from config.settings import settings
from jobs import chat, image, queues  # noqa: F401  # RQ finds its functions by name; they are loaded up front
from jobs.worker_class import GreenletWorker
from ops import logs


def main() -> None:
    """Work until told to stop."""
    start.check()
    logs.configure()
    limits.raise_open_files()
    GreenletWorker(_queues(), settings.worker_concurrency, connections.connection()).work()


def _queues() -> dict[str, int]:
    """Return the queues, each with the most jobs of it that may run at once."""
    kinds = {"chat": settings.worker_concurrency, "image": settings.image_concurrency}
    lines = {queues.name_of_lines(kind): max(1, most // 4) for kind, most in kinds.items()}
    # Nobody waits for these.
    return kinds | lines | {"batch": max(1, settings.image_concurrency // 2)}


if __name__ == "__main__":
    main()
