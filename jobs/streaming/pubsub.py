"""How a process hears what is said of its jobs, and whoever in it waits for that.

Pub/sub is only a bell: what rings while nobody listens is gone, and the truth is in SQL. One
greenlet owns the one pub/sub connection of a process and hands what comes to whoever waits.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

import gevent
import redis
import structlog
from gevent.event import Event
from gevent.lock import BoundedSemaphore
from gevent.queue import Empty, SimpleQueue

from config import redis as redis_config
from jobs.streaming import messages
from jobs.streaming.messages import Events
from models.errors import Unavailable

log = structlog.get_logger()

RECONNECT_SECONDS = 0.5
#: Seconds a new call waits for a connection that is being renewed.
UP_SECONDS = 2
#: A channel that nobody listens to any more is left within this time.
LEAVE_SECONDS = 0.1
#: More of a stream does not wait here for one slow reader: the rest of its backlog is the log.
MAX_INBOX_BYTES = 256 * 1024


class Reconnected:
    """The connection was renewed: whoever waits may have missed something, and looks."""


RECONNECTED = Reconnected()


@dataclass
class Subscription:
    """One request's ear for one job."""

    job_id: str
    listener: "Listener"
    confirmed: Event = field(default_factory=Event)
    heard: SimpleQueue = field(default_factory=SimpleQueue)
    #: Bytes of a stream that were heard and not taken, and whether some were dropped since.
    waiting_bytes: int = 0
    missed: bool = False

    def hear(self, said: Any) -> None:
        """Keep what was said until it is taken, if there is room."""
        if isinstance(said, Events):
            if self.waiting_bytes > MAX_INBOX_BYTES:
                self.missed = True
                return
            self.waiting_bytes += len(said.data)
        self.heard.put(said)

    def get(self, timeout: float) -> Any:
        """Return what was heard next, or None where nothing was in `timeout` seconds."""
        try:
            said = self.heard.get(block=timeout > 0, timeout=timeout)
        except Empty:
            return None
        if isinstance(said, Events):
            self.waiting_bytes -= len(said.data)
        return said

    def ready(self) -> None:
        """Wait until what is published now is heard; raise `Unavailable` where that fails."""
        if not self.confirmed.wait(timeout=5):
            raise Unavailable("The queue does not answer just now. Try again.")

    def close(self) -> None:
        self.listener.forget(self)


class Listener:
    """The one pub/sub connection of a web process.

    Only its own greenlet opens it and reads from it; others send on it while it is up. When it
    breaks, it is opened anew, subscribed to all that is waited for, and whoever waits is told.
    """

    def __init__(self, notices: dict[str, Callable[[bytes], None]]) -> None:
        """Listen to the channels of `notices` from the start; each handler gets the messages."""
        self.notices = notices
        self.waiters: dict[str, list[Subscription]] = {}
        #: Channels to subscribe to, and to unsubscribe from, with the next command.
        self.wanted: list[str] = []
        self.left: set[str] = set()
        self.connection: redis.Connection | None = None
        self.up = Event()
        #: Nothing was heard for so long that the other side was asked whether it still lives.
        self.silent = False
        self.sending = BoundedSemaphore(1)
        self.greenlet = gevent.spawn(self._run)

    def listen(self, job_id: str) -> Subscription:
        """Return a waiter for a job. Its subscription is under way: see `Waiter.ready`."""
        if not self.up.wait(timeout=UP_SECONDS):
            raise Unavailable("The queue does not answer just now. Try again.")
        waiter = Subscription(job_id, self)
        channel = messages.channel(job_id)
        others = self.waiters.setdefault(channel, [])
        others.append(waiter)
        if channel in self.left or (len(others) > 1 and others[0].confirmed.is_set()):
            waiter.confirmed.set()
        elif len(others) == 1:
            self._subscribe_soon(channel)
        self.left.discard(channel)
        return waiter

    def forget(self, waiter: Subscription) -> None:
        """Stop listening for a waiter."""
        channel = messages.channel(waiter.job_id)
        others = self.waiters.get(channel, [])
        if waiter in others:
            others.remove(waiter)
        if not others and self.waiters.pop(channel, None) is not None:
            self._leave_soon(channel)

    def interrupt(self, why: Any) -> None:
        """Put `why` into the ear of everybody who waits."""
        for waiter in [waiter for waiters in self.waiters.values() for waiter in waiters]:
            waiter.heard.put(why)

    def _subscribe_soon(self, channel: str) -> None:
        """Subscribe with all who begin to listen in this turn of the loop: one command for all."""
        self.wanted.append(channel)
        if len(self.wanted) == 1:
            gevent.spawn(self._subscribe)

    def _subscribe(self) -> None:
        channels, self.wanted = self.wanted, []
        self._send("SUBSCRIBE", channels)

    def _leave_soon(self, channel: str) -> None:
        """Unsubscribe with others: what is published meanwhile finds nobody waiting."""
        self.left.add(channel)
        if len(self.left) == 1:
            gevent.spawn_later(LEAVE_SECONDS, self._unsubscribe)

    def _unsubscribe(self) -> None:
        channels, self.left = self.left, set()
        self._send("UNSUBSCRIBE", channels)

    def _send(self, command: str, channels: Collection[str]) -> None:
        """Send a command, if the connection is up; where it is not, its renewal says it all."""
        if not self.up.is_set() or self.connection is None or not channels:
            return
        try:
            with self.sending:
                self.connection.send_command(command, *channels, check_health=False)
        except (redis.RedisError, OSError) as error:
            log.warning("channel.send_failed", command=command, reason=str(error))

    def _run(self) -> None:
        while True:
            try:
                self._connect()
                while True:
                    self._hear(self._read())
            except (redis.RedisError, OSError) as error:
                log.warning("channel.lost", reason=str(error))
            except Exception:  # A greenlet's outermost door: nobody else would open it again.
                log.exception("channel.broke")
            self._disconnect()
            gevent.sleep(RECONNECT_SECONDS)

    def _connect(self) -> None:
        """Open the connection and subscribe to all that is waited for, with one command."""
        self.connection = redis_config.dedicated()
        self.connection.connect()
        self.wanted, self.left = [], set()
        self.connection.send_command("SUBSCRIBE", *self.notices, *self.waiters, check_health=False)
        self.up.set()

    def _disconnect(self) -> None:
        self.up.clear()
        if self.connection is not None:
            self.connection.disconnect()
            self.connection = None

    def _read(self) -> list[Any]:
        """Wait for the next message; ask now and then whether the other side still lives."""
        assert self.connection is not None
        while True:
            try:
                heard: list[Any] = self.connection.read_response(disconnect_on_error=False)
                return heard
            except redis.TimeoutError:
                if self.silent:
                    raise
                self.silent = True
                self._send("PING", ["?"])

    def _hear(self, message: list[Any]) -> None:
        self.silent = False
        kind, channel = bytes(message[0]), _text(message[1])
        if kind == b"subscribe":
            self._confirm(channel)
        elif kind == b"message" and channel in self.notices:
            self.notices[channel](message[2])
        elif kind == b"message":
            said = messages.decode(message[2])
            for waiter in self.waiters.get(channel, ()):
                waiter.hear(said)

    def _confirm(self, channel: str) -> None:
        waiters = self.waiters.get(channel, [])
        for waiter in waiters:
            if waiter.confirmed.is_set():
                # Not its first: the connection was renewed, and something may have been missed.
                waiter.heard.put(RECONNECTED)
            waiter.confirmed.set()
        if not waiters and channel not in self.notices:
            self._leave_soon(channel)


def _text(channel: bytes | str | None) -> str:
    return channel.decode() if isinstance(channel, bytes) else channel or ""
