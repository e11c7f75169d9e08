"""The worker process: `python worker.py`, any number of them, on any number of machines."""

# ruff: noqa: E402  # gevent patches modules before others import them
from gevent import monkey

monkey.patch_all()

from importlib import import_module

from config import redis as redis_config
from config import startup
from config.settings import settings
from jobs.batch.runner import Runner
from jobs.kinds import KINDS, function_name, line_queue_name
from jobs.maintenance import passes
from jobs.webhook.sender import Sender
from jobs.worker.greenlet_worker import GreenletWorker
from jobs.worker.rq_record import Run
from jobs.worker.services import Loop, Service
from ops import logs, memory, watchdog
from providers import NAMES
from routing import breakers


def main() -> None:
    """Run jobs until a signal to stop."""
    startup.check()
    logs.configure()
    startup.raise_open_files()
    startup.log_redis()
    watchdog.start()
    memory.start()
    connection = redis_config.connection()
    capacity = settings.worker_concurrency
    GreenletWorker(_limits(), capacity, connection, _functions(), _services()).work()


def _limits() -> dict[str, int]:
    """Return the queues, each with how many of its jobs may run at once."""
    limits = {name: kind.concurrency() for name, kind in KINDS.items()}
    lines = {
        line_queue_name(name): max(1, limit // 4)
        for name, limit in limits.items()
        if KINDS[name].batch_endpoint
    }
    return limits | lines


def _functions() -> dict[str, Run]:
    """Return what jobs can run, by the names in RQ's records: `run` of each kind's module."""
    return {
        function_name(name): import_module(f"jobs.{kind.module}").run
        for name, kind in KINDS.items()
    }


def _services() -> list[Service]:
    """Return what runs beside the jobs; the webhooks' sender finishes before batches stop."""
    return [
        Loop(passes.run_in_worker),
        Loop(lambda _: breakers.keep_fresh(NAMES)),
        Sender(),
        Runner(),
    ]


if __name__ == "__main__":
    main()
