"""`likedo up`: all of it on one machine, stopped with ctrl-c."""

import errno
import http.client
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import orjson

import migrations
from cli.local import account, instance, welcome
from cli.local import valkey as local_valkey
from cli.local.supervisor import Child, Log, Supervisor
from cli.terminal import explain
from cli.terminal.arguments import WholeNumber
from config.settings import environment, settings
from database import engine

#: Where `app.py` and `worker.py` are, whatever the working folder.
ROOT = Path(__file__).resolve().parents[1]

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)

#: If it takes longer than this to be ready, what is missing is said.
PATIENCE_SECONDS = 20


@click.command()
@click.option("--port", type=WholeNumber(1, 65535), help="Default: PORT, or 8000.")
def command(port: int | None) -> None:
    """Start all of it on this machine: web, worker, Valkey, SQLite."""
    settings.port = port or settings.port
    if problem := settings.local_state_problem():
        raise click.ClickException(problem)
    with instance.claimed() as lock:
        _check_port(settings.port)
        _up(lock)


def _up(lock: int) -> None:
    crew = Supervisor(Log(), lock)
    with _stopped_by_signals(crew):
        valkey = _find_redis()
        instance.tell(lock)
        if "sandbox" not in settings.model_fields_set:
            settings.sandbox = not welcome.providers_on()
        migrations.upgrade()
        key = account.key()
        engine.engine().dispose()
        _run(crew, valkey, key)


def _check_port(port: int) -> None:
    with socket.socket() as probe:
        # As gunicorn does: connections that have ended are no hindrance.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise click.ClickException(
                    f"Port {port} is in use by another program. Stop that one, or choose another "
                    f"port: likedo up --port {port % 65535 + 1}"
                ) from None
            raise click.ClickException(
                f"Port {port} cannot be opened ({error.strerror}). Choose one above 1023: "
                "likedo up --port 8000"
            ) from None


def _find_redis() -> Child | None:
    """Return the Valkey server to start; None where the environment names one that answers."""
    if "redis_url" not in settings.model_fields_set:
        settings.redis_url = local_valkey.place()
        return Child("valkey", local_valkey.command(settings.redis_url), environment())
    if not local_valkey.answers(settings.redis_url):
        raise click.ClickException(
            f"Redis at {explain.redis_address()} does not answer. Start it, or take REDIS_URL out "
            "of the environment and .env to have a server started here."
        )
    return None


@contextmanager
def _stopped_by_signals(crew: Supervisor) -> Iterator[None]:
    """Have a signal, or a closed terminal, ask for an orderly stop; a second cuts nothing short."""
    # Under nohup the end of the terminal is ignored, and stays so.
    closable = signal.getsignal(signal.SIGHUP) != signal.SIG_IGN
    numbers = (*STOP_SIGNALS, signal.SIGHUP) if closable else STOP_SIGNALS
    before = {number: signal.signal(number, crew.request_stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _run(crew: Supervisor, valkey: Child | None, key: str) -> None:
    """Start what is to run, keep it running until told to stop, and stop it in good order."""
    env = _child_environment()
    gunicorn = [sys.executable, "-m", "gunicorn", "-c", "python:config.gunicorn"]
    web = Child("web", [*gunicorn, "app:create_app()"], env)
    worker = Child("worker", [sys.executable, str(ROOT / "worker.py")], env)

    def start_the_rest() -> None:
        crew.start(worker)
        crew.start(web)
        crew.when(_Readiness(crew.log), lambda: crew.log.say(welcome.text(key)))

    try:
        if valkey:
            crew.start(valkey)
        crew.when(lambda: local_valkey.answers(settings.redis_url), start_the_rest)
        crew.keep_running()
        crew.log.say("Stopping; calls that are running may end first.")
    finally:
        for child in (web, worker, valkey):
            if child:
                crew.stop(child)


def _child_environment() -> Mapping[str, str]:
    env = environment()
    # Ours come first, whatever `app.py` or `config` the working folder has.
    path = [str(ROOT), env.get("PYTHONPATH", ""), str(Path.cwd())]
    return env | {
        "PORT": str(settings.port),
        "REDIS_URL": settings.redis_url,
        "SANDBOX": str(int(settings.sandbox)),
        "PYTHONPATH": os.pathsep.join(filter(None, path)),
        "PYTHONSAFEPATH": "1",
        "PYTHONUNBUFFERED": "1",
    }


class _Readiness:
    """Asks the web process whether work would get done."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.complain_at = time.monotonic() + PATIENCE_SECONDS

    def __call__(self) -> bool:
        try:
            status, said = _ask()
        except (OSError, http.client.HTTPException, ValueError):
            status, said = 0, {"missing": ["the web process's answer"]}
        if status == 200 and said.get("status") == "ok":
            return True
        if time.monotonic() > self.complain_at:
            self.complain_at = float("inf")
            self.log.say(f"It is not ready yet; missing: {', '.join(said.get('missing', []))}.")
        return False


def _ask() -> tuple[int, dict[str, Any]]:
    connection = http.client.HTTPConnection("127.0.0.1", settings.port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        reply = connection.getresponse()
        return reply.status, orjson.loads(reply.read())
    finally:
        connection.close()
