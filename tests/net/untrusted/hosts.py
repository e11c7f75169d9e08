"""Servers that nobody should trust, and what a caller gets who names them."""

import base64
import socket
import ssl
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import pytest

from models.errors import InvalidRequest, JobCancelled, LikeDoError
from net.call import Call
from providers.wire import caller_images
from providers.wire.caller_images import Media
from providers.wire.image_room import Room
from tests.upstream import Step

PARAM = "messages[0].content[1].image_url.url"
CANCELLED = JobCancelled("The job was cancelled.")
PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)
#: More than anything here takes: what hangs is a failure, not a wait.
PATIENCE_SECONDS = 60.0


def image(data: bytes = PNG, **more: Any) -> Step:
    return {"body_base64": base64.b64encode(data).decode()} | more


def redirect(location: str, status: int = 302) -> Step:
    return {"status": status, "headers": {"location": location}, "body": ""}


def head(*lines: str, status: int = 200) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status} Said", *lines, "", ""]).encode()


def plain(data: bytes) -> bytes:
    return head(f"content-length: {len(data)}") + data


def chunked(*pieces: bytes) -> bytes:
    """Return an answer in chunks, without the empty line that ends its trailers."""
    body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return head("transfer-encoding: chunked") + body + b"0\r\n"


def fetch(url: str, call: Call | None = None) -> Media:
    with Room(call or Call(60)) as room:
        return caller_images.fetch(room, url, PARAM)


def refusal(url: str, call: Call | None = None) -> str:
    """Return what the caller is told who named `url`."""
    with pytest.raises(InvalidRequest) as raised:
        fetch(url, call)
    assert type(raised.value) is InvalidRequest
    assert raised.value.param == PARAM
    return raised.value.message


class Names:
    """The names that are known, and which of them were looked up."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.begun, self.end = threading.Event(), threading.Event()
        self._answers: dict[str, list[list[str]]] = {}
        self._real = socket.getaddrinfo

    def say(self, name: str, *answers: list[str]) -> None:
        """Answer with one list of addresses after the other, and with the last for ever."""
        self._answers[name] = list(answers)

    def look_up(self, host: str, port: int, *args: Any, **kwargs: Any) -> list[Any]:
        if host[0].isdecimal() or ":" in host:
            return self._real(host, port, *args, **kwargs)
        self.asked.append(host)
        if host == "silent.example":
            self.begun.set()
            self.end.wait()
        answers = self._answers.get(host)
        if not answers:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        addresses = answers.pop(0) if len(answers) > 1 else answers[0]
        return [line for one in addresses for line in self._real(one, port, *args, **kwargs)]


class Host:
    """A server that says the same bytes to everybody and remembers how many of them it got rid of.

    With a `gap` they go out one by one, so many seconds apart.
    """

    def __init__(
        self,
        *pieces: bytes,
        gap: float | None = None,
        files: tuple[Path, Path] | None = None,
        then_wait: bool = False,
    ) -> None:
        self.sent = 0
        self.requests: list[bytes] = []
        self._pieces, self._gap, self._then_wait = pieces, gap, then_wait
        self._scheme, self._context = "http", None
        if files:
            self._scheme, self._context = "https", ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(*files)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def url(self, host: str = "127.0.0.1") -> str:
        return f"{self._scheme}://{host}:{self._listener.getsockname()[1]}/a"

    def _serve(self) -> None:
        while not self._closed.is_set():
            with suppress(OSError):
                sock, _ = self._listener.accept()
                with sock:
                    self._answer(sock)

    def _answer(self, sock: socket.socket) -> None:
        if self._context is not None:
            sock = self._context.wrap_socket(sock, server_side=True)
        with sock:
            self.requests.append(sock.recv(65536))
            for piece in self._pieces:
                self._say(sock, piece)
            if self._then_wait:
                sock.recv(1)

    def _say(self, sock: socket.socket, piece: bytes) -> None:
        size = len(piece) if self._gap is None else 1
        for start in range(0, len(piece), size):
            sock.sendall(piece[start : start + size])
            self.sent += size
            self._closed.wait(self._gap or 0)


def box(*brands: bytes) -> bytes:
    """Return the first box of a file in the family of ISO's formats, the major brand first."""
    named = brands[0] + bytes(4) + b"".join(brands[1:])
    return (8 + len(named)).to_bytes(4, "big") + b"ftyp" + named + b"heicavif" * 9


SLOW = [
    pytest.param({"delay": 60}, id="before-the-headers"),
    pytest.param({"body_delay": 60}, id="after-the-headers"),
    pytest.param({"dribble": " ", "gap": 0.01}, id="while-reading"),
]


class Outcome:
    """A fetch in a thread of its own, and what it raised."""

    def __init__(self, call: Call, url: str) -> None:
        self.call = call
        self.error: LikeDoError | None = None
        self._thread = threading.Thread(target=self._run, args=(url,))
        self._thread.start()

    def _run(self, url: str) -> None:
        try:
            fetch(url, self.call)
        except LikeDoError as error:
            self.error = error

    def after_abort(self) -> LikeDoError | None:
        self.call.abort(CANCELLED)
        return self.at_last()

    def at_last(self) -> LikeDoError | None:
        self._thread.join(PATIENCE_SECONDS)
        assert not self._thread.is_alive()
        return self.error
