"""A real PostgreSQL server of the tests' own, on a port of its own, as an unprivileged user."""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import sqlalchemy

from tests.servers.ports import free_port
from tests.stack import wait_until


def binaries() -> Path | None:
    """Return the folder of the newest PostgreSQL server there is; None where there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=_version)
    if found:
        return found[-1].parent
    initdb = shutil.which("initdb")
    return Path(initdb).parent if initdb else None


def _version(initdb: Path) -> int:
    name = initdb.parts[-3]
    return int(name) if name.isdigit() else 0


class Postgres:
    """One server with as many databases as tests ask for."""

    def __init__(self, bin_folder: Path) -> None:
        self.bin = bin_folder
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="likedo-postgres-"))
        self.data = self.folder / "data"
        self.databases = 0
        if os.geteuid() == 0:
            shutil.chown(self.folder, "postgres", "postgres")
        self._initialise()
        self._start()

    def _as_user(self) -> dict[str, object]:
        # The server refuses to run as root.
        if os.geteuid() != 0:
            return {}
        user = pwd.getpwnam("postgres")
        return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}

    def _initialise(self) -> None:
        command = [self.bin / "initdb", "-D", self.data, "-U", "likedo", "-A", "trust", "-N"]
        subprocess.run(  # type: ignore[call-overload]  # the user goes in by name
            [*map(str, command), "--encoding=UTF8", "--locale=C.UTF-8"],
            check=True,
            capture_output=True,
            cwd=self.folder,
            **self._as_user(),
        )

    def _start(self) -> None:
        options = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": self.folder,
            "max_connections": 200,
        }
        command = [str(self.bin / "postgres"), "-D", str(self.data)]
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        with (self.folder / "log").open("wb") as log:
            self.child = subprocess.Popen(  # type: ignore[call-overload]  # as above
                command,
                cwd=self.folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                **self._as_user(),
            )
        wait_until(self._answers, "PostgreSQL answers")

    def _answers(self) -> bool:
        ready = [str(self.bin / "pg_isready"), "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(ready, capture_output=True, check=False).returncode == 0

    def database(self) -> str:
        """Make a new empty database and return its URL."""
        self.databases += 1
        name = f"test_{self.databases}"
        admin = sqlalchemy.create_engine(
            self._url("postgres").replace("postgresql:", "postgresql+psycopg:"),
            poolclass=sqlalchemy.NullPool,
            isolation_level="AUTOCOMMIT",
        )
        with admin.connect() as connection:
            connection.execute(sqlalchemy.text(f"CREATE DATABASE {name}"))
        admin.dispose()
        return self._url(name)

    def _url(self, database: str) -> str:
        return f"postgresql://likedo@127.0.0.1:{self.port}/{database}"

    def close(self) -> None:
        self.child.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.child.wait(10)
        if self.child.poll() is None:
            self.child.kill()
            self.child.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
