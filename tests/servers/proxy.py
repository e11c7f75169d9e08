"""A proxy between a client and the product that cuts each connection after a fixed time."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

READ_BYTES = 64 * 1024


@contextmanager
def cutting(port: int, seconds: float) -> Iterator[int]:
    """Give the port of a proxy to `port`, whose connections last so many seconds, for a block."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=_serve, args=(server, port, seconds))
        thread.start()
        try:
            yield int(server.getsockname()[1])
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def _serve(server: socket.socket, port: int, seconds: float) -> None:
    while True:
        try:
            client, _ = server.accept()
        except OSError:
            return  # The block is over.
        upstream = socket.create_connection(("127.0.0.1", port))
        for one, other in ((client, upstream), (upstream, client)):
            threading.Thread(target=_pump, args=(one, other), daemon=True).start()
        timer = threading.Timer(seconds, _cut, [client, upstream])
        timer.daemon = True
        timer.start()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(READ_BYTES):
            target.sendall(piece)
    _cut(source, target)


def _cut(*sockets: socket.socket) -> None:
    for each in sockets:
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        each.close()
