"""The upstream itself: what it was told, what it was asked, and what it answers."""

import json
import socket
from collections import deque
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs

import gevent
from gevent.event import Event

from tests.upstream.answer import BODIES, NOT_FOUND, Answer, Hangup, pause, play
from tests.upstream.client import WAIT_SECONDS
from tests.upstream.completions import COMPLETES, GEMINI_COMPLETES, GEMINI_STREAMS, STREAMS
from tests.upstream.images import Images

KEPT_CALLS = 20_000
#: Whoever is held looks this often whether he still is.
HELD_LOOK_SECONDS = 0.02


class Server:
    """Everything the process knows."""

    def __init__(self) -> None:
        self.changed = Event()
        self.forget()

    def forget(self) -> None:
        self.next: deque[Answer] = deque()
        self.answer_by_default()
        self.calls: deque[dict[str, Any]] = deque(maxlen=KEPT_CALLS)
        self.counts = {"received": 0, "running": 0, "aborted": 0, "connections": 0}
        self.images = Images()
        self.released = Event()

    def answer_by_default(self, **more: Any) -> None:
        """Answer as if nothing had been scripted, `more` being what all these steps have."""
        self.default: Answer | None = None
        self.more = more
        steps = (GEMINI_COMPLETES, GEMINI_STREAMS)
        self.gemini = [Answer(step | more) for step in steps]
        self.completes, self.streams = Answer(COMPLETES | more), Answer(STREAMS | more)

    def connected(self, sock: Any, _: Any) -> None:
        """Serve one connection until its client leaves or a step ends it."""
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        reader = sock.makefile("rb")
        counted = False
        try:
            while (request := _read_request(reader, sock)) is not None:
                if not request["path"].startswith("/__"):
                    self.counts["connections"] += not counted
                    counted = True
                if not self._serve(sock, request):
                    return
        except (Hangup, OSError):
            pass
        finally:
            reader.close()
            sock.close()

    def _serve(self, sock: Any, request: dict[str, Any]) -> bool:
        """Answer one request; return whether the connection goes on."""
        if request["path"].startswith("/__"):
            return self._steered(sock, request)
        counts = self.counts  # A reset puts another in its place while this one runs on.
        counts["received"] += 1
        counts["running"] += 1
        self.calls.append(request)
        self.changed.set()
        try:
            answer = self._answer_to(request)
            if answer.hold:
                self._hold(sock, self.released)
            return play(sock, answer)
        except (Hangup, OSError):
            request["aborted"] = True
            counts["aborted"] += 1
            raise Hangup from None
        finally:
            counts["running"] -= 1
            self.changed.set()

    def _hold(self, sock: Any, released: Event) -> None:
        while not released.is_set():
            pause(sock, HELD_LOOK_SECONDS)

    def _answer_to(self, request: dict[str, Any]) -> Answer:
        path, default = request["path"], self.default
        for answer in self.next:
            if answer.takes(request):
                self.next.remove(answer)
                return self._said(answer, request)
        if default is not None and default.takes(request):
            return self._said(default, request)
        if default is not None and "prediction" not in default.step:
            return NOT_FOUND
        if COMPLETES["match"] in path:
            return self.streams if _wants_stream(request["body"]) else self.completes
        if (drawn := self.images.answer(request, {})) is not None:
            return Answer(drawn | self.more)
        return next((each.said_at(path) for each in self.gemini if each.match in path), NOT_FOUND)

    def _said(self, answer: Answer, request: dict[str, Any]) -> Answer:
        """Return the answer as it is given to `request`, which may be for images."""
        if BODIES.isdisjoint(answer.step) and COMPLETES["match"] not in request["path"]:
            drawn = self.images.answer(request, answer.step)
            if drawn is not None:
                return Answer(drawn | answer.step)
        return answer.said_at(request["path"])

    def _steered(self, sock: Any, request: dict[str, Any]) -> bool:
        path, _, query = request["path"].partition("?")
        match path:
            case "/__script":
                told = json.loads(request["body"])
                self.next.extend(Answer(step) for step in told.get("next", ()))
                if "default" in told:
                    self.default = Answer(told["default"])
                said: Any = {}
            case "/__calls":
                said = self._report({name: found[0] for name, found in parse_qs(query).items()})
            case "/__release":
                self.images.release()
                self.released.set()
                said = {}
            case _:
                self.forget()
                said = {}
        return play(sock, Answer({"json": said, "close": "announced"}))

    def _report(self, query: dict[str, str]) -> dict[str, Any]:
        counts = self.counts
        wanted = {name: int(count) for name, count in query.items() if name in counts}
        with gevent.Timeout(WAIT_SECONDS, False):
            while any(counts[name] < count for name, count in wanted.items()):
                self.changed.clear()
                self.changed.wait()
        if "bare" in query:
            return counts
        return counts | {"calls": [_shown(call) for call in self.calls]}


def _shown(call: dict[str, Any]) -> dict[str, Any]:
    try:
        body = json.loads(call["body"]) if call["body"] else None
    except ValueError:
        body = call["body"].decode("utf-8", "replace")
    lines = call["head"].decode("latin-1").split("\r\n")[1:]
    headers = {name.lower(): value for name, _, value in (li.partition(": ") for li in lines)}
    return call | {"head": None, "headers": headers, "body": body}


def _wants_stream(body: bytes) -> bool:
    return b'"stream"' in body and bool(json.loads(body).get("stream"))


def _read_request(reader: Any, sock: Any) -> dict[str, Any] | None:
    lines = []
    while (line := reader.readline(65536)) not in (b"\r\n", b"\n", b""):
        lines.append(line)
    if not lines or not line:
        return None
    head = b"".join(lines)
    lowered = head.lower()
    if b"\r\nexpect: 100-continue" in lowered:
        sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    method, target, _ = lines[0].decode("latin-1").split(" ", 2)
    # A proxy is asked for a whole URL.
    path = target if target.startswith("/") else "/" + target.split("/", 3)[3]
    return {
        "method": method,
        "path": path,
        "target": target,
        "head": head.rstrip(),
        "body": _read_body(reader, lowered),
        "aborted": False,
    }


def _read_body(reader: Any, head: bytes) -> bytes:
    if b"\r\ntransfer-encoding: chunked" in head:
        return b"".join(_read_chunks(reader))
    _, found, rest = head.partition(b"\r\ncontent-length:")
    return bytes(reader.read(int(rest.split(b"\r\n", 1)[0]))) if found else b""


def _read_chunks(reader: Any) -> Iterator[bytes]:
    while size := int(reader.readline().split(b";")[0], 16):
        yield reader.read(size)
        reader.readline()
    reader.readline()
