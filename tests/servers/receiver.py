"""A receiver of webhooks: a real HTTP server that keeps what it was sent, byte for byte."""

import threading
from collections import deque
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

WAIT_SECONDS = 30.0
#: In the place of a status: the answer waits for `release`, and is none.
HELD = 0


@dataclass(frozen=True)
class Message:
    """One request. The names of the headers are in lower case."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]


class Receiver:
    """Answers with the scripted statuses, in order, and then with 200."""

    def __init__(self, port: int = 0) -> None:
        self.messages: list[Message] = []
        self._script: deque[tuple[int, dict[str, str]]] = deque()
        self._changed = threading.Condition()
        self._released = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", port), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._released.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def port(self) -> int:
        return int(self._server.server_port)

    def url(self, path: str = "/hook") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def script(self, *statuses: int, **headers: str) -> None:
        """Answer the next messages with these, each with `headers`."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._script.extend((status, named) for status in statuses)

    def wait(self, count: int) -> list[Message]:
        """Wait until so many messages have come, and return them."""
        with self._changed:
            there = self._changed.wait_for(lambda: len(self.messages) >= count, WAIT_SECONDS)
            assert there, f"{len(self.messages)} messages have come, not {count}"
            return list(self.messages)

    def release(self) -> None:
        """Close the connections that are held."""
        self._released.set()

    def take(self, message: Message) -> tuple[int, dict[str, str]]:
        """Keep a message and return how it is answered."""
        with self._changed:
            answer = self._script.popleft() if self._script else (200, {})
            self.messages.append(message)
            self._changed.notify_all()
        if answer[0] == HELD:
            self._released.wait()
        return answer


def _handler(receiver: Receiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, more = receiver.take(Message(self.path, headers, body))
            if status == HELD:
                return
            self.send_response(status)
            for name, value in more.items():
                self.send_header(name, value)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    return Handler
