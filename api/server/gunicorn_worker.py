"""gunicorn's gevent worker with a shutdown that suits platforms: at once if nothing runs."""

import contextlib
import http.client
import socket
import time
import uuid
from typing import Any

import orjson
import structlog
from gunicorn.http.errors import (
    ExpectationFailed,
    InvalidResponseHeader,
    InvalidResponseHeaderName,
    LimitRequestHeaders,
    LimitRequestLine,
    ParseException,
)
from gunicorn.workers.ggevent import GeventWorker

from api.server.body import RequestBody, announcing_close
from jobs.following import listener
from jobs.following.wait import WaitInterrupted
from models.errors import InternalError, InvalidRequest, LikeDoError, RequestTooLarge
from ops import memory, watchdog

log = structlog.get_logger()

#: These mean that a header of our own response is invalid: our fault, not the client's.
INVALID_RESPONSE = (InvalidResponseHeader, InvalidResponseHeaderName)

#: Waiting calls may end by themselves for this long, of the 25 s that a stopping process has.
GRACE_SECONDS = 20


class WebWorker(GeventWorker):
    """Closes idle keep-alive connections when stopping, and interrupts waits in time."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        #: Whether a request is being answered, by open connection.
        self.busy: dict[socket.socket, bool] = {}
        self.stopped_at: float | None = None

    def load_wsgi(self) -> None:
        super().load_wsgi()
        self.wsgi = announcing_close(self.wsgi)

    def run(self) -> None:
        watchdog.start()
        memory.start()
        super().run()

    def handle(self, listener: Any, client: socket.socket, addr: Any) -> None:
        self.busy[client] = False
        try:
            super().handle(listener, client, addr)
        finally:
            del self.busy[client]

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> Any:
        self.busy[sock] = True
        req.body = body = RequestBody(req)
        try:
            super().handle_request(listener_name, req, sock, addr)
        finally:
            can_continue = body.discard()
            self.busy[sock] = False
        if not can_continue:
            raise StopIteration

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: BaseException) -> None:
        """Answer a request that gunicorn itself refuses with an error in our envelope.

        gunicorn's own answer is HTML, and it logs the request line, which may contain a key.
        """
        status, error = _refusal(exc)
        if status >= 500:
            log.error("web.failed", exc_info=exc)
        else:
            log.warning("web.refused", status=status, kind=type(exc).__name__)
        with contextlib.suppress(OSError):
            client.sendall(_response(status, error))

    def notify(self) -> None:
        """Called every second; while stopping, close idle connections and interrupt waits."""
        super().notify()
        if not self.alive:
            self._close_idle()
            self._interrupt_after_grace()

    def _close_idle(self) -> None:
        for connection in [sock for sock, busy in self.busy.items() if not busy]:
            # End of file ends the wait for a next request. gevent's own `shutdown` would raise in
            # the greenlet that waits.
            with contextlib.suppress(OSError):
                getattr(connection, "_sock", connection).shutdown(socket.SHUT_RD)

    def _interrupt_after_grace(self) -> None:
        self.stopped_at = self.stopped_at or time.monotonic()
        if time.monotonic() - self.stopped_at > GRACE_SECONDS:
            listener.listener().interrupt(WaitInterrupted.STOPPING)


def _refusal(error: BaseException) -> tuple[int, LikeDoError]:
    """Return the status and the error for a request that gunicorn could not read."""
    match error:
        case LimitRequestLine():
            return 414, RequestTooLarge("The URL is too long.")
        case LimitRequestHeaders():
            return 431, RequestTooLarge("The headers are too large, or too many.")
        case ExpectationFailed():
            return 417, InvalidRequest("Only 'Expect: 100-continue' can be met.")
        case ParseException() if not isinstance(error, INVALID_RESPONSE):
            return 400, InvalidRequest("This is not a valid HTTP request.")
        case _:
            return 500, InternalError("Something went wrong on our side.")


def _response(status: int, error: LikeDoError) -> bytes:
    body = orjson.dumps({"error": error.as_json()})
    lines = (
        f"HTTP/1.1 {status} {http.client.responses[status]}",
        "content-type: application/json",
        f"content-length: {len(body)}",
        "connection: close",
        "cache-control: no-store",
        f"x-request-id: req_{uuid.uuid4().hex}",
        "x-should-retry: false",
    )
    return "\r\n".join([*lines, "", ""]).encode() + body
