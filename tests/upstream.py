"""A provider to test against: a real HTTP server that says what a test tells it to say.

`python -m tests.upstream --port N` serves until it is told to stop. It answers every
`POST …/chat/completions` with a small fixed completion, streamed where the body has
`"stream": true`, and every `POST …:generateContent` and `…:streamGenerateContent` with the same in
Gemini's words, any number of them at a time, and records what it was asked. It draws, too:

- `POST …/images/generations`: OpenAI's answer, with `n` images of the `size` asked as base64;
- `POST …/predictions` and `…/models/{owner}/{name}/predictions`: a prediction as Replicate begins
  it; `GET …/predictions/{id}` is `processing` once and then `succeeded`, with a list of URLs, or
  one URL for `flux-pro` and `flux-1.1`; `POST …/predictions/{id}/cancel` ends it;
- `GET …/files/….png`, `.jpg` and `.webp`: what these URLs lead to; a name that ends in
  `PLACE-WIDTHxHEIGHT` says which size;
- `POST …/v2beta/stable-image/generate/core`, `ultra` and `sd3`, and
  `POST …/v1/generation/{engine}/text-to-image`: what Stability AI answers.

`Upstream` starts one on a free port and steers it over HTTP:

    POST /__script   {"next": [step, …], "default": step}; either may be left out
    GET  /__calls    {"received", "running", "aborted", "connections", "calls": [call, …]}
                     `?received=N` or `?aborted=N` waits until there are as many, for a minute
    POST /__release  let the answers and the predictions go on that a step holds
    POST /__reset    forget the script, the calls and the predictions

A step says how one request is answered; a request takes the first step of `next` that matches it,
or else the default. All its fields may be left out:

    status, headers, body   the answer; or `body_base64` (bytes), `json` (a value), `size` (bytes);
                            where there is none of them, the small fixed completion, or what is
                            drawn at that path
    match                   take this step only for a path that contains this text
    prediction              how the prediction goes that is begun, all to be left out:
                            {"polls": 1, "ends": "succeeded", "error": text, "output": value,
                            "hold": false}. `polls` is how often it is `processing`; `ends` may be
                            any status; held, it is `processing` until it is released. The step is
                            for nothing else
    noise                   OpenAI's images are squares of so many pixels a side that cannot be
                            compressed
    hold                    true: no byte of the answer before it is released
    delay                   seconds before the first byte of the answer
    body_delay              seconds between the headers and the body
    dribble, gap, times     before the body, this text `times` times (for ever where there is no
                            number), every `gap` seconds
    split                   the body in pieces of so many bytes, `gap` seconds between them
    events                  an event stream: `data: …` and a chunk for each of these texts,
                            `[DONE]` like any other, `gap` seconds between them
    chunked                 no Content-Length, the body in chunks
    cut                     bytes of the body after which the connection ends; -1 ends it before
                            the status line
    close                   "announced" as HTTP does it, "silent" right after the answer
    raw                     text sent instead of any HTTP
"""

import argparse
import base64
import http.client
import json
import os
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs

import gevent
from gevent.event import Event
from gevent.server import StreamServer
from gevent.socket import wait_read  # type: ignore[attr-defined]  # it is there

from tests.upstream_images import Images, is_create

ROOT = Path(__file__).parents[1]
WAIT_SECONDS = 60.0
KEPT_CALLS = 20_000

#: What the body's framing and the connection make anew.
HOP_BY_HOP = frozenset(
    {"connection", "content-encoding", "content-length", "keep-alive", "transfer-encoding"}
)

COMPLETION = {
    "id": "chatcmpl-upstream",
    "object": "chat.completion",
    "created": 1_767_225_600,
    "model": "upstream-1",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hello from upstream."},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
}

Step = dict[str, Any]


def chunk(*choices: dict[str, Any], **more: Any) -> str:
    """Return an event of `COMPLETION` as it is streamed."""
    head = {name: COMPLETION[name] for name in ("id", "created", "model")}
    return json.dumps(head | {"object": "chat.completion.chunk", "choices": choices} | more)


def said(finish_reason: str | None = None, **delta: Any) -> str:
    """Return an event with a `delta` of the first choice."""
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    return chunk(choice, usage=None)


EVENTS = [
    said(role="assistant", content="", refusal=None),
    said(content="Hello"),
    said(content=" from"),
    said(content=" upstream."),
    said("stop"),
    chunk(usage=COMPLETION["usage"]),
    "[DONE]",
]


def gemini_said(
    text: str | None = None, finish_reason: str | None = None, **more: Any
) -> dict[str, Any]:
    """Return what Gemini says with a `text`, as a whole answer or as an event of a stream."""
    content = {"role": "model", "parts": [{"text": text}]} if text is not None else {}
    candidate = {"content": content, "index": 0} | (
        {"finishReason": finish_reason} if finish_reason else {}
    )
    head = {"modelVersion": COMPLETION["model"], "responseId": COMPLETION["id"]}
    return {"candidates": [candidate], **head, **more}


def gemini_usage(completion_tokens: int) -> dict[str, Any]:
    counts = {"promptTokenCount": 10, "candidatesTokenCount": completion_tokens}
    return {"usageMetadata": counts | {"totalTokenCount": sum(counts.values())}}


GEMINI_COMPLETION = gemini_said("Hello from upstream.", "STOP", **gemini_usage(5))
GEMINI_EVENTS = [
    json.dumps(event)
    for event in (
        gemini_said("Hello", **gemini_usage(1)),
        gemini_said(" from", **gemini_usage(2)),
        gemini_said(" upstream.", "STOP", **gemini_usage(5)),
    )
]

#: What happens where nothing was scripted, by the end of the path and whether it is streamed.
COMPLETES: Step = {"match": "/chat/completions"}
STREAMS: Step = COMPLETES | {"events": EVENTS}
GEMINI_COMPLETES: Step = {"match": ":generateContent"}
GEMINI_STREAMS: Step = {"match": ":streamGenerateContent", "events": GEMINI_EVENTS}


class Upstream:
    """A server in a process of its own, and the means to steer it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.upstream", "--port", "0", "--until-stdin-closes"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._process.terminate()
        # Closes the pipes, too.
        self._process.communicate()

    def script(self, *steps: Step, default: Step | None = None) -> None:
        """Answer the next requests with `steps`, in order, and all others with `default`."""
        told: dict[str, Any] = {"next": steps}
        if default is not None:
            told["default"] = default
        self._ask("POST", "/__script", told)

    def play(self, *exchanges: dict[str, Any]) -> None:
        """Answer the next requests as recorded exchanges were answered, byte for byte."""
        self.script(*(as_step(exchange["response"]) for exchange in exchanges))

    def play_always(self, exchange: dict[str, Any]) -> None:
        """Answer every request as one recorded exchange was answered."""
        self.script(default=as_step(exchange["response"]))

    def calls(self) -> list[dict[str, Any]]:
        """Return the requests so far: `method`, `path`, `headers`, `body`, `aborted`.

        A body that is not JSON, such as a multipart form, is text.
        """
        return list(self._ask("GET", "/__calls")["calls"])

    def counts(self) -> dict[str, int]:
        """Return how many requests were `received`, are `running`, were `aborted` by the client,
        and how many `connections` they came on."""
        return dict(self._ask("GET", "/__calls?bare=1"))

    def wait(self, **counts: int) -> None:
        """Wait until `received=N` requests have come, or the client left `aborted=N` of them."""
        query = "&".join(f"{name}={count}" for name, count in counts.items())
        reached = self._ask("GET", f"/__calls?bare=1&{query}")
        for name, count in counts.items():
            assert reached[name] >= count, f"{name}: {reached[name]}, not {count}"

    def release(self) -> None:
        """Let the answers and the predictions go on that a step holds."""
        self._ask("POST", "/__release")

    def reset(self) -> None:
        self._ask("POST", "/__reset")

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2 * WAIT_SECONDS)
        try:
            connection.request(method, path, json.dumps(body), {"Connection": "close"})
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()


def as_step(response: dict[str, Any]) -> Step:
    """Return the step that answers as the recorded `response` does."""
    kept = {k: v for k, v in response["headers"].items() if k.lower() not in HOP_BY_HOP}
    body: Step = {name: response[name] for name in ("body", "body_base64") if name in response}
    return {"status": response["status"], "headers": kept, **body}


# ---- The server ----------------------------------------------------------------------------------


#: Whoever is held looks this often whether he still is.
HELD_LOOK_SECONDS = 0.02


class _Hangup(Exception):
    """The client has gone."""


#: The fields of a step that say what its body is.
BODIES = frozenset({"body", "body_base64", "json", "size", "events", "raw"})


class _Answer:
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
        self._for_gemini: _Answer | None = None
        parts = {"dribble", "split", "events", "cut", "close", "raw", "chunked", "body_delay"}
        #: Head and body in one write.
        self.is_plain = parts.isdisjoint(step)

    def said_at(self, path: str) -> "_Answer":
        """Return the answer as it is given at `path`, where Gemini's words may be wanted."""
        if "enerateContent" not in path or not BODIES.isdisjoint(self.step):
            return self
        if self._for_gemini is None:
            self._for_gemini = _Answer(self.step | {"json": GEMINI_COMPLETION})
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


_NOT_FOUND = _Answer({"status": 404, "json": {"error": {"message": "There is nothing here."}}})


class _Server:
    """Everything the process knows."""

    def __init__(self) -> None:
        self.changed = Event()
        self.forget()

    def forget(self) -> None:
        self.next: deque[_Answer] = deque()
        self.answer_by_default()
        self.calls: deque[dict[str, Any]] = deque(maxlen=KEPT_CALLS)
        self.counts = {"received": 0, "running": 0, "aborted": 0, "connections": 0}
        self.images = Images()
        self.released = Event()

    def answer_by_default(self, **more: Any) -> None:
        """Answer as if nothing had been scripted, `more` being what all these steps have."""
        self.default: _Answer | None = None
        self.more = more
        steps = (GEMINI_COMPLETES, GEMINI_STREAMS)
        self.gemini = [_Answer(step | more) for step in steps]
        self.completes, self.streams = _Answer(COMPLETES | more), _Answer(STREAMS | more)

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
        except (_Hangup, OSError):
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
            return _play(sock, answer)
        except (_Hangup, OSError):
            request["aborted"] = True
            counts["aborted"] += 1
            raise _Hangup from None
        finally:
            counts["running"] -= 1
            self.changed.set()

    def _hold(self, sock: Any, released: Event) -> None:
        while not released.is_set():
            _pause(sock, HELD_LOOK_SECONDS)

    def _answer_to(self, request: dict[str, Any]) -> _Answer:
        path, default = request["path"], self.default
        for answer in self.next:
            if answer.takes(request):
                self.next.remove(answer)
                return self._said(answer, request)
        if default is not None and default.takes(request):
            return self._said(default, request)
        if default is not None and "prediction" not in default.step:
            return _NOT_FOUND
        if COMPLETES["match"] in path:
            return self.streams if _wants_stream(request["body"]) else self.completes
        if (drawn := self.images.answer(request, {})) is not None:
            return _Answer(drawn | self.more)
        return next((each.said_at(path) for each in self.gemini if each.match in path), _NOT_FOUND)

    def _said(self, answer: _Answer, request: dict[str, Any]) -> _Answer:
        """Return the answer as it is given to `request`, which may be for images."""
        if BODIES.isdisjoint(answer.step) and COMPLETES["match"] not in request["path"]:
            drawn = self.images.answer(request, answer.step)
            if drawn is not None:
                return _Answer(drawn | answer.step)
        return answer.said_at(request["path"])

    def _steered(self, sock: Any, request: dict[str, Any]) -> bool:
        path, _, query = request["path"].partition("?")
        match path:
            case "/__script":
                told = json.loads(request["body"])
                self.next.extend(_Answer(step) for step in told.get("next", ()))
                if "default" in told:
                    self.default = _Answer(told["default"])
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
        return _play(sock, _Answer({"json": said, "close": "announced"}))

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


def _play(sock: Any, answer: _Answer) -> bool:
    if answer.delay:
        _pause(sock, answer.delay)
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
        _pause(sock, answer.body_delay)
    _write_body(sock, answer)
    return answer.cut is None and not answer.step.get("close")


def _write_body(sock: Any, answer: _Answer) -> None:
    first = True
    for piece in answer.pieces():
        if answer.gap and not first:
            _pause(sock, answer.gap)
        first = False
        sock.sendall(b"%x\r\n%s\r\n" % (len(piece), piece) if answer.chunked else piece)
    if answer.chunked and answer.cut is None:
        sock.sendall(b"0\r\n\r\n")


def _pause(sock: Any, seconds: float) -> None:
    """Wait, and notice at once when the client leaves."""
    try:
        wait_read(sock.fileno(), timeout=seconds)
    except TimeoutError:
        return
    if not sock.recv(1, socket.MSG_PEEK):
        raise _Hangup
    gevent.sleep(seconds)


def _stop_with_stdin() -> None:
    wait_read(0)
    os._exit(0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before each answer")
    parser.add_argument("--until-stdin-closes", action="store_true")
    options = parser.parse_args()

    state = _Server()
    if options.delay:
        state.answer_by_default(delay=options.delay)
    server = StreamServer((options.host, options.port), state.connected, backlog=4096)
    server.start()
    print(server.server_port, flush=True)
    if options.until_stdin_closes:
        gevent.spawn(_stop_with_stdin)
    server.serve_forever()


if __name__ == "__main__":
    main()
