"""Run Valkey, web and worker for `likedo up`: start them, restart them, stop them in order."""

import http.client
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import orjson

import migrations
from cli.local import account, address, instance, welcome
from cli.local import valkey as local_valkey
from cli.local.supervisor import Child, Log, Supervisor
from cli.terminal import explain
from config import private_files
from config.settings import environment, settings
from database import engine

#: The folder of `app.py` and `worker.py`.
ROOT = Path(__file__).resolve().parents[2]

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)

#: If it is not ready after this, what is missing is logged.
PATIENCE_SECONDS = 20


def up(port: int | None) -> None:
    """Run everything on `port`, or else on that of the settings, until a signal stops it."""
    address.choose(port)
    if problem := settings.local_state_problem():
        raise click.ClickException(problem)
    private_files.keep()
    with instance.claimed() as lock:
        address.check()
        _up(lock)


def _up(lock: int) -> None:
    supervisor = Supervisor(Log(), lock)
    with _stopped_by_signals(supervisor):
        valkey = _find_redis()
        instance.record(lock)
        if "sandbox" not in settings.model_fields_set:
            settings.sandbox = not welcome.configured_providers()
        migrations.upgrade()
        key = account.key()
        engine.engine().dispose()
        _run(supervisor, valkey, key)


def _find_redis() -> Child | None:
    """Return the Valkey server to start; None if the environment names one, which must answer.

    Sets `settings.redis_url`. Raises `click.ClickException` if the named server does not answer.
    """
    if "redis_url" not in settings.model_fields_set:
        settings.redis_url = local_valkey.choose_url()
        return Child("valkey", local_valkey.command(settings.redis_url), environment())
    if not local_valkey.answers(settings.redis_url):
        raise click.ClickException(
            f"Redis at {explain.redis_address()} does not answer. Start it, or take REDIS_URL out "
            "of the environment and .env to have a server started here."
        )
    return None


@contextmanager
def _stopped_by_signals(supervisor: Supervisor) -> Iterator[None]:
    """Stop in order on a signal or when the terminal is closed; further signals change nothing."""
    # Under nohup a closed terminal stays ignored.
    ignores_hangup = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    numbers = STOP_SIGNALS if ignores_hangup else (*STOP_SIGNALS, signal.SIGHUP)
    previous = {number: signal.signal(number, supervisor.request_stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _run(supervisor: Supervisor, valkey: Child | None, key: str) -> None:
    """Start all processes, keep them running until a stop is requested, and stop them in order."""
    env = _child_environment()
    gunicorn = [sys.executable, "-m", "gunicorn", "-c", "python:config.gunicorn"]
    web = Child("web", [*gunicorn, "app:create_app()"], env)
    worker = Child("worker", [sys.executable, str(ROOT / "worker.py")], env)

    def start_web_and_worker() -> None:
        supervisor.start(worker)
        supervisor.start(web)
        is_ready = _Readiness(supervisor.log)
        supervisor.when(is_ready, lambda: supervisor.log.announce(welcome.text(key)))

    try:
        if valkey:
            supervisor.start(valkey)
        supervisor.when(lambda: local_valkey.answers(settings.redis_url), start_web_and_worker)
        supervisor.keep_running()
        supervisor.log.announce("Stopping; running calls may finish first.")
    finally:
        for child in (web, worker, valkey):
            if child:
                supervisor.stop(child)


def _child_environment() -> Mapping[str, str]:
    env = environment()
    # Our modules come first, even if the working folder has its own `app.py` or `config`.
    path = [str(ROOT), env.get("PYTHONPATH", ""), str(Path.cwd())]
    return env | {
        "HOST": settings.host,
        "PORT": str(settings.port),
        "REDIS_URL": settings.redis_url,
        "SANDBOX": str(int(settings.sandbox)),
        "PYTHONPATH": os.pathsep.join(filter(None, path)),
        "PYTHONSAFEPATH": "1",
        "PYTHONUNBUFFERED": "1",
    }


class _Readiness:
    """Asks the web process whether it is ready; logs once what is missing if that takes long."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.complain_at = time.monotonic() + PATIENCE_SECONDS

    def __call__(self) -> bool:
        try:
            status, report = _get_readiness()
        except (OSError, http.client.HTTPException, ValueError):
            status, report = 0, {"missing": ["the web process's answer"]}
        if status == 200 and report.get("status") == "ok":
            return True
        if time.monotonic() > self.complain_at:
            self.complain_at = float("inf")
            missing = ", ".join(report.get("missing", []))
            self.log.announce(f"Not ready yet; missing: {missing}.")
        return False


def _get_readiness() -> tuple[int, dict[str, Any]]:
    connection = http.client.HTTPConnection(address.host(), settings.port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        reply = connection.getresponse()
        return reply.status, orjson.loads(reply.read())
    finally:
        connection.close()
