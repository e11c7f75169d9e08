"""What a worker says of a job, and how the web process that waits for it hears it.

Pub/sub is only a bell: what rings while nobody listens is gone, and the truth is in SQL. One
greenlet owns the one pub/sub connection of a process and hands what comes to whoever waits.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import gevent
import orjson
import redis
import structlog
from gevent.event import Event
from gevent.queue import Empty, SimpleQueue

from config.connections import connection
from models import errors

log = structlog.get_logger()

#: An answer above this does not ride along with the bell; it is read from SQL.
INLINE_BYTES = 64 * 1024
#: Seconds of silence after which the listener asks whether its connection still lives.
PING_SECONDS = 10
RECONNECT_SECONDS = 0.5
#: Seconds a new call waits for a connection that is being renewed.
UP_SECONDS = 2
#: A channel that nobody listens to any more is left within this time.
LEAVE_SECONDS = 0.1


@dataclass(frozen=True)
class Ended:
    """How a job ended, as its waiter needs to know it."""

    status: str
    provider: str | None = None
    charged: int | None = None
    available: int | None = None
    error: dict[str, Any] | None = None
    #: The answer, or None where it has to be read from SQL.
    body: bytes | None = None

    def encode(self) -> bytes:
        """Return it as it travels: one line of JSON, then the answer's own bytes."""
        facts = {name: getattr(self, name) for name in _FACTS}
        inline = self.body if self.body and len(self.body) <= INLINE_BYTES else b""
        return orjson.dumps(facts) + b"\n" + inline

    @classmethod
    def decode(cls, message: bytes) -> "Ended":
        facts, _, body = message.partition(b"\n")
        return cls(body=body or None, **orjson.loads(facts))


_FACTS = ("status", "provider", "charged", "available", "error")


class Renewed:
    """The connection was renewed: whoever waits may have missed something, and looks."""


RENEWED = Renewed()


def name(job_id: str) -> str:
    """Return the channel on which a job is spoken of."""
    return f"likedo:job:{job_id}"


@dataclass
class Waiter:
    """One request's ear for one job."""

    job_id: str
    listener: "Listener"
    confirmed: Event = field(default_factory=Event)
    heard: SimpleQueue = field(default_factory=SimpleQueue)

    def get(self, timeout: float) -> Any:
        """Return what was heard next, or None where nothing was in `timeout` seconds."""
        try:
            return self.heard.get(timeout=timeout)
        except Empty:
            return None

    def ready(self) -> None:
        """Wait until what is published now is heard; raise `Unavailable` where that fails."""
        if not self.confirmed.wait(timeout=5):
            raise errors.Unavailable("The queue does not answer just now. Try again.")

    def close(self) -> None:
        self.listener.forget(self)


class Listener:
    """The one pub/sub connection of a web process."""

    def __init__(self, notices: dict[str, Callable[[bytes], None]]) -> None:
        """Listen to the channels of `notices` from the start; each handler gets the messages."""
        self.notices = notices
        self.waiters: dict[str, list[Waiter]] = {}
        #: Channels to subscribe to, and to unsubscribe from, with the next command.
        self.wanted: list[str] = []
        self.left: set[str] = set()
        self.pubsub = connection().pubsub()
        #: Set while the connection is there: only its own greenlet opens it.
        self.up = Event()
        self.greenlet = gevent.spawn(self._run)

    def listen(self, job_id: str) -> Waiter:
        """Return a waiter for a job. Its subscription is under way: see `Waiter.ready`."""
        if not self.up.wait(timeout=UP_SECONDS):
            raise errors.Unavailable("The queue does not answer just now. Try again.")
        waiter = Waiter(job_id, self)
        channel = name(job_id)
        others = self.waiters.setdefault(channel, [])
        others.append(waiter)
        if len(others) == 1 and channel not in self.left:
            self._subscribe_soon(channel)
        elif channel in self.left or others[0].confirmed.is_set():
            waiter.confirmed.set()
        self.left.discard(channel)
        return waiter

    def _subscribe_soon(self, channel: str) -> None:
        """Subscribe with all who begin to listen in this turn of the loop: one command for all."""
        self.wanted.append(channel)
        if len(self.wanted) == 1:
            gevent.spawn(self._subscribe)

    def _subscribe(self) -> None:
        channels, self.wanted = self.wanted, []
        try:
            self.pubsub.subscribe(*channels)
        except redis.RedisError as error:
            # Who waits for the confirmation says so to the caller.
            log.warning("channel.subscribe_failed", reason=str(error))

    def forget(self, waiter: Waiter) -> None:
        """Stop listening for a waiter."""
        channel = name(waiter.job_id)
        others = self.waiters.get(channel, [])
        if waiter in others:
            others.remove(waiter)
        if not others:
            self.waiters.pop(channel, None)
            self._leave_soon(channel)

    def _leave_soon(self, channel: str) -> None:
        """Unsubscribe with others: what is published meanwhile finds nobody waiting."""
        self.left.add(channel)
        if len(self.left) == 1:
            gevent.spawn_later(LEAVE_SECONDS, self._unsubscribe)

    def _unsubscribe(self) -> None:
        channels, self.left = self.left, set()
        try:
            self.pubsub.unsubscribe(*channels)
        except redis.RedisError:
            # The renewed connection subscribes to them again, and _confirm finds nobody waiting.
            log.debug("channel.unsubscribe_failed", channels=len(channels))

    def interrupt(self, why: Any) -> None:
        """Put `why` into the ear of everybody who waits."""
        for waiter in [waiter for waiters in self.waiters.values() for waiter in waiters]:
            waiter.heard.put(why)

    def _run(self) -> None:
        while True:
            try:
                self._subscribe_to_notices()
                self._hear_for_ever()
            except redis.RedisError as error:
                self.up.clear()
                log.warning("channel.lost", reason=str(error))
                gevent.sleep(RECONNECT_SECONDS)

    def _subscribe_to_notices(self) -> None:
        self.pubsub.subscribe(*self.notices)
        self.up.set()

    def _hear_for_ever(self) -> None:
        while True:
            message = self.pubsub.get_message(timeout=PING_SECONDS)
            if message is None:
                self.pubsub.ping()
            else:
                self._hear(message["type"], _text(message["channel"]), message["data"])

    def _hear(self, kind: str, channel: str, data: Any) -> None:
        waiters = self.waiters.get(channel, ())
        if kind == "subscribe":
            self._confirm(channel, waiters)
        elif kind == "message" and channel in self.notices:
            self.notices[channel](data)
        elif kind == "message":
            ended = Ended.decode(data)
            for waiter in waiters:
                waiter.heard.put(ended)

    def _confirm(self, channel: str, waiters: Any) -> None:
        for waiter in waiters:
            if waiter.confirmed.is_set():
                waiter.heard.put(RENEWED)
            waiter.confirmed.set()
        if not waiters and channel not in self.notices:
            self._leave_soon(channel)


def _text(channel: bytes | str | None) -> str:
    return channel.decode() if isinstance(channel, bytes) else channel or ""
