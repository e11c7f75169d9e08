"""A step made ready, and how it is played to who asked."""

import base64
import http.client
import json
import socket
from collections.abc import Iterator
from typing import Any

import gevent
from gevent.socket import wait_read  # type: ignore[attr-defined]  # it is there

from tests.upstream.completions import COMPLETION, GEMINI_COMPLETION, Step
from tests.upstream.images import is_create


class Hangup(Exception):
    """The client has gone."""


#: The fields of a step that say what its body is.
BODIES = frozenset({"body", "body_base64", "json", "size", "events", "raw"})


class Answer:
    """A step made ready, so that serving it is little more than writing bytes."""

    def __init__(self, step: Step) -> None:
        self.step = step
        self.match = step.get("match", "")
        self.hold = bool(step.get("hold"))
        self.delay = step.get("delay", 0.0)
        self.body_delay = step.get("body_delay", 0.0)
        self.gap = step.get("gap", 0.0)
        self.split = step.get("split")
        self.cut = step.get("cut")
        self.raw = step.get("raw")
        self.chunked = bool(step.get("chunked") or "dribble" in step or "events" in step)
        self.events = [f"data: {data}\n\n".encode() for data in step.get("events", ())]
        self.body = self._body()
        self.head = self._head()
        self._for_gemini: Answer | None = None
        parts = {"dribble", "split", "events", "cut", "close", "raw", "chunked", "body_delay"}
        #: Head and body in one write.
        self.is_plain = parts.isdisjoint(step)

    def said_at(self, path: str) -> "Answer":
        """Return the answer as it is given at `path`, where Gemini's words may be wanted."""
        if "enerateContent" not in path or not BODIES.isdisjoint(self.step):
            return self
        if self._for_gemini is None:
            self._for_gemini = Answer(self.step | {"json": GEMINI_COMPLETION})
        return self._for_gemini

    def takes(self, request: dict[str, Any]) -> bool:
        """Tell whether the step is for this request."""
        if "prediction" in self.step and not is_create(request):
            return False
        return self.match in request["path"]

    def _body(self) -> bytes:
        step = self.step
        if "body_base64" in step:
            return base64.b64decode(str(step["body_base64"]))
        if "size" in step:
            return b"x" * int(step["size"])
        if "events" in step:
            return b"".join(self.events)
        if "body" in step:
            return str(step["body"]).encode()
        return json.dumps(step.get("json", COMPLETION)).encode()

    def _head(self) -> bytes:
        status = self.step.get("status", 200)
        kind = "text/event-stream; charset=utf-8" if "events" in self.step else "application/json"
        headers = {"content-type": kind} | self.step.get("headers", {})
        if self.chunked:
            headers["transfer-encoding"] = "chunked"
        else:
            headers["content-length"] = str(len(self.body))
        if self.step.get("close") == "announced":
            headers["connection"] = "close"
        lines = [f"HTTP/1.1 {status} {http.client.responses.get(status, 'Status')}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return "\r\n".join([*lines, "", ""]).encode("utf-8")

    def pieces(self) -> Iterator[bytes]:
        """Yield what is written one piece after another, `gap` seconds between them."""
        body = self.body if self.cut is None else self.body[: self.cut]
        dribble, times = self.step.get("dribble", "").encode(), self.step.get("times")
        while dribble and times != 0:
            yield dribble
            times = times - 1 if times is not None else None
        if "events" in self.step and self.cut is None and not self.split:
            yield from self.events
            return
        size = self.split or len(body) or 1
        yield from (body[start : start + size] for start in range(0, len(body), size))


NOT_FOUND = Answer({"status": 404, "json": {"error": {"message": "There is nothing here."}}})


def play(sock: Any, answer: Answer) -> bool:
    if answer.delay:
        pause(sock, answer.delay)
    if answer.is_plain:
        sock.sendall(answer.head + answer.body)
        return True
    if answer.raw is not None:
        sock.sendall(answer.raw.encode())
        return False
    if answer.cut == -1:
        return False
    sock.sendall(answer.head)
    if answer.body_delay:
        pause(sock, answer.body_delay)
    _write_body(sock, answer)
    return answer.cut is None and not answer.step.get("close")


def _write_body(sock: Any, answer: Answer) -> None:
    first = True
    for piece in answer.pieces():
        if answer.gap and not first:
            pause(sock, answer.gap)
        first = False
        sock.sendall(b"%x\r\n%s\r\n" % (len(piece), piece) if answer.chunked else piece)
    if answer.chunked and answer.cut is None:
        sock.sendall(b"0\r\n\r\n")


def pause(sock: Any, seconds: float) -> None:
    """Wait, and notice at once when the client leaves."""
    try:
        wait_read(sock.fileno(), timeout=seconds)
    except TimeoutError:
        return
    if not sock.recv(1, socket.MSG_PEEK):
        raise Hangup
    gevent.sleep(seconds)
