"""Where `likedo up` listens, and the URL at which this machine reaches it."""

import errno
import socket

import click

from config.settings import settings

#: `HOST` unless the environment sets it: only this machine can connect.
LOOPBACK = "127.0.0.1"
#: Addresses that stand for all of a machine's, and where the machine itself connects to them.
_ALL = {"0.0.0.0": LOOPBACK, "::": "::1"}


def choose(port: int | None) -> None:
    """Set the address to listen on in `settings`, unless the environment does."""
    settings.port = port or settings.port
    settings.host = settings.host or LOOPBACK


def host() -> str:
    """Return the host at which this machine reaches the web process."""
    return _ALL.get(settings.host, settings.host) or LOOPBACK


def url() -> str:
    """Return the URL at which this machine reaches the web process."""
    name = f"[{host()}]" if ":" in host() else host()
    return f"http://{name}:{settings.port}"


def is_open_to_others() -> bool:
    """Tell whether other machines can connect."""
    return settings.host not in ("localhost", "::1") and not settings.host.startswith("127.")


def check() -> None:
    """Raise `click.ClickException` if nothing can listen on the address."""
    port = settings.port
    try:
        family, kind, *_, address = socket.getaddrinfo(
            settings.host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind) as probe:
            # As in gunicorn, connections that have ended do not block the port.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise click.ClickException(_explain(error, port)) from None


def _explain(error: OSError, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"Port {port} is in use by another program. Stop it, or choose another "
            f"port: likedo up --port {port % 65535 + 1}"
        )
    if error.errno == errno.EACCES:
        return (
            f"Port {port} cannot be opened ({error.strerror}). Choose one above 1023: "
            "likedo up --port 8000"
        )
    return (
        f"HOST={settings.host} is no address of this machine ({error.strerror}). Take it out of "
        f"the environment and .env to listen on {LOOPBACK}, or set 0.0.0.0 for all addresses."
    )
