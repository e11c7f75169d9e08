"""A request of a test's, in its own thread or in another, and what becomes of it."""

import socket
import threading
from collections.abc import Callable

from models.errors import JobCancelled, LikeDoError
from net import http
from net.answer import Response
from net.call import Call
from tests.upstream import Upstream

CANCELLED = JobCancelled("The job was cancelled.")
PATH = "/v1/chat/completions"


def post(upstream: Upstream, call: Call | None = None) -> Response:
    return http.post(call or Call(20), upstream.url + PATH, {"Authorization": "k"}, {"a": "ä"})


class Outcome:
    """A post, or another `way` to ask, in a thread of its own, and what it raised."""

    def __init__(self, call: Call, url: str, way: Callable[..., object] = http.post) -> None:
        self.call = call
        self.error: LikeDoError | None = None
        self._thread = threading.Thread(target=self._run, args=(url, way))
        self._thread.start()

    def _run(self, url: str, way: Callable[..., object]) -> None:
        try:
            way(self.call, url, {}, {})
        except LikeDoError as error:
            self.error = error

    def after_abort(self) -> LikeDoError | None:
        self.call.abort(CANCELLED)
        return self.at_last()

    def at_last(self) -> LikeDoError | None:
        self._thread.join()
        return self.error


def port_of(listener: socket.socket) -> int:
    return int(listener.getsockname()[1])


def listen(call: Call, url: str, headers: dict[str, str], payload: object) -> list[bytes]:
    with http.stream(call, url, {}, {}) as answer:
        return list(answer.events())
