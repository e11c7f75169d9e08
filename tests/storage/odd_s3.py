"""A service that is not quite S3."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


@contextmanager
def answering(status: int, body: bytes, cut: bool = False) -> Iterator[tuple[str, list[Any]]]:
    """Give a service that says the same to everybody, and the headers it was sent.

    `cut`: it promises twice as much as it sends.
    """
    seen: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 10

        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            seen.append(self.headers)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body) * (2 if cut else 1)))
            self.end_headers()
            self.wfile.write(body)
            self.close_connection = cut

        do_GET = do_PUT = do_DELETE = answer  # noqa: N815  # http.server's names

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", seen
        finally:
            server.shutdown()
            thread.join()
