"""Ports for the servers of tests, each of which is one server's alone."""

import fcntl
import random
import socket
import tempfile
from pathlib import Path
from typing import IO

#: Below those that a system gives to outgoing connections.
PORTS = range(10_000, 32_000)
#: Open files: each holds the lock of a port that is this process's for as long as it lives.
_claims: list[IO[str]] = []


def free_port() -> int:
    """Return a port that nobody listens on, and that no other test process takes meanwhile.

    A port that was merely free a moment ago may be another's by the time a server listens; the
    tests of both would then talk to one of the two.
    """
    folder = Path(tempfile.gettempdir()) / "likedo-test-ports"
    folder.mkdir(exist_ok=True)
    for port in random.sample(PORTS, len(PORTS)):
        claim = (folder / str(port)).open("w")
        try:
            fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(("127.0.0.1", port))
        except OSError:
            claim.close()
            continue
        _claims.append(claim)
        return port
    raise AssertionError("There is no free port.")
