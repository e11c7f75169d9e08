"""gunicorn's gevent worker, stopping as a platform wants it: at once where nothing runs."""

import contextlib
import socket
import time
from typing import Any

from gunicorn.workers.ggevent import GeventWorker

from api import answers
from jobs.waiting import Interruption

#: Of the 25 s a stopping process has, waiting calls get this long to end by themselves.
GRACE_SECONDS = 20


class WebWorker(GeventWorker):
    """Closes idle keep-alive connections when told to stop, and lets go of calls in time."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        #: Every open connection, and whether a request is being answered on it.
        self.busy: dict[socket.socket, bool] = {}
        self.stopped_at: float | None = None

    def handle(self, listener: Any, client: socket.socket, addr: Any) -> None:
        self.busy[client] = False
        try:
            super().handle(listener, client, addr)
        finally:
            del self.busy[client]

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> Any:
        self.busy[sock] = True
        try:
            return super().handle_request(listener_name, req, sock, addr)
        finally:
            self.busy[sock] = False

    def notify(self) -> None:
        """Called every second, also while stopping, when it ends what need not go on."""
        super().notify()
        if not self.alive:
            self._close_idle()
            self._let_go_in_time()

    def _close_idle(self) -> None:
        for connection in [sock for sock, busy in self.busy.items() if not busy]:
            # The end of what it may send ends the wait for its next request.
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RD)

    def _let_go_in_time(self) -> None:
        self.stopped_at = self.stopped_at or time.monotonic()
        if time.monotonic() - self.stopped_at > GRACE_SECONDS:
            answers.listener().interrupt(Interruption.STOPPING)
