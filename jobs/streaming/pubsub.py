"""Pub/sub: the messages of a process's jobs, delivered to the requests that wait for them.

Pub/sub is only a notification: what is published while the connection is down is lost, and SQL
holds the truth. One greenlet owns the one pub/sub connection of a process and puts each message
into the inbox of every subscription to its job.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from itertools import chain
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
#: How long a new call waits for a connection that is being reopened.
CONNECT_SECONDS = 2
#: How long a new call waits for Redis to confirm its subscription.
CONFIRM_SECONDS = 5
#: A channel without subscriptions is unsubscribed from within this time.
UNSUBSCRIBE_SECONDS = 0.1
#: Further events of a stream are dropped for a slow reader, who then reads the log.
MAX_INBOX_BYTES = 256 * 1024


class Reconnected:
    """The connection was reopened: messages may have been missed, so subscribers must check."""


RECONNECTED = Reconnected()


@dataclass
class Subscription:
    """One request's subscription to the messages of one job."""

    job_id: str
    listener: "Listener"
    confirmed: Event = field(default_factory=Event)
    #: Messages, `RECONNECTED`, and what interrupts the wait, in the order they came.
    inbox: SimpleQueue = field(default_factory=SimpleQueue)
    #: Bytes of the stream's events in the inbox.
    inbox_bytes: int = 0
    #: Whether events were dropped because the inbox was full; its reader resets it.
    has_dropped: bool = False

    def deliver(self, message: Any) -> None:
        """Put a message into the inbox; drop events of a stream if it is full."""
        if isinstance(message, Events):
            if self.inbox_bytes > MAX_INBOX_BYTES:
                self.has_dropped = True
                return
            self.inbox_bytes += len(message.data)
        self.inbox.put(message)

    def get(self, timeout: float) -> Any:
        """Return the next message of the inbox; None if none came within `timeout` seconds."""
        try:
            message = self.inbox.get(block=timeout > 0, timeout=timeout)
        except Empty:
            return None
        if isinstance(message, Events):
            self.inbox_bytes -= len(message.data)
        return message

    def wait_until_confirmed(self) -> None:
        """Wait until messages published from now on are received, or raise `Unavailable`."""
        if not self.confirmed.wait(timeout=CONFIRM_SECONDS):
            raise Unavailable("The queue does not answer just now. Try again.")

    def close(self) -> None:
        self.listener.remove(self)


class Listener:
    """The one pub/sub connection of a process.

    Only its own greenlet opens the connection and reads from it; others send on it while it is up.
    When it breaks, it is reopened and resubscribed to all channels, and every subscription gets
    `RECONNECTED`.
    """

    def __init__(self, handlers: dict[str, Callable[[bytes], None]]) -> None:
        """Listen to the channels of `handlers` from the start; each handler gets the messages."""
        self.handlers = handlers
        #: By channel.
        self.subscriptions: dict[str, list[Subscription]] = {}
        #: Channels that the next command subscribes to, or unsubscribes from.
        self.to_subscribe: list[str] = []
        self.to_unsubscribe: set[str] = set()
        self.connection: redis.Connection | None = None
        self.connected = Event()
        #: Whether a ping was sent after a silence, and nothing has been received since.
        self.awaits_pong = False
        self.send_lock = BoundedSemaphore(1)
        self.greenlet = gevent.spawn(self._run)

    def listen(self, job_id: str) -> Subscription:
        """Return a subscription to a job, which `Subscription.wait_until_confirmed` waits for.

        Raises `Unavailable` if there is no connection.
        """
        if not self.connected.wait(timeout=CONNECT_SECONDS):
            raise Unavailable("The queue does not answer just now. Try again.")
        subscription = Subscription(job_id, self)
        channel = messages.channel(job_id)
        of_channel = self.subscriptions.setdefault(channel, [])
        of_channel.append(subscription)
        if channel in self.to_unsubscribe or (
            len(of_channel) > 1 and of_channel[0].confirmed.is_set()
        ):
            subscription.confirmed.set()
        elif len(of_channel) == 1:
            self._subscribe_soon(channel)
        self.to_unsubscribe.discard(channel)
        return subscription

    def remove(self, subscription: Subscription) -> None:
        """Stop delivering to a subscription."""
        channel = messages.channel(subscription.job_id)
        of_channel = self.subscriptions.get(channel, [])
        if subscription in of_channel:
            of_channel.remove(subscription)
        if not of_channel and self.subscriptions.pop(channel, None) is not None:
            self._unsubscribe_soon(channel)

    def interrupt(self, reason: Any) -> None:
        """Put `reason` into every inbox."""
        for subscription in [*chain.from_iterable(self.subscriptions.values())]:
            subscription.inbox.put(reason)

    def _subscribe_soon(self, channel: str) -> None:
        """Subscribe with one command to all channels wanted in this turn of the event loop."""
        self.to_subscribe.append(channel)
        if len(self.to_subscribe) == 1:
            gevent.spawn(self._subscribe)

    def _subscribe(self) -> None:
        channels, self.to_subscribe = self.to_subscribe, []
        self._send("SUBSCRIBE", channels)

    def _unsubscribe_soon(self, channel: str) -> None:
        """Unsubscribe from several channels with one command; late messages find no inbox."""
        self.to_unsubscribe.add(channel)
        if len(self.to_unsubscribe) == 1:
            gevent.spawn_later(UNSUBSCRIBE_SECONDS, self._unsubscribe)

    def _unsubscribe(self) -> None:
        channels, self.to_unsubscribe = self.to_unsubscribe, set()
        self._send("UNSUBSCRIBE", channels)

    def _send(self, command: str, channels: Collection[str]) -> None:
        """Send a command if the connection is up; if it is not, reconnecting does the same."""
        if not self.connected.is_set() or self.connection is None or not channels:
            return
        try:
            with self.send_lock:
                self.connection.send_command(command, *channels, check_health=False)
        except (redis.RedisError, OSError) as error:
            log.warning("pubsub.send_failed", command=command, reason=str(error))

    def _run(self) -> None:
        while True:
            try:
                self._connect()
                while True:
                    self._dispatch(self._read())
            except (redis.RedisError, OSError) as error:
                log.warning("pubsub.connection_lost", reason=str(error))
            except Exception:  # The greenlet's outermost handler: nothing else would reconnect.
                log.exception("pubsub.failed")
            self._disconnect()
            gevent.sleep(RECONNECT_SECONDS)

    def _connect(self) -> None:
        """Open the connection and subscribe to all channels with one command."""
        self.connection = redis_config.dedicated()
        self.connection.connect()
        self.to_subscribe, self.to_unsubscribe = [], set()
        self.connection.send_command(
            "SUBSCRIBE", *self.handlers, *self.subscriptions, check_health=False
        )
        self.connected.set()

    def _disconnect(self) -> None:
        self.connected.clear()
        if self.connection is not None:
            self.connection.disconnect()
            self.connection = None

    def _read(self) -> list[Any]:
        """Wait for the next reply; ping Redis after a silence, and raise after a second one."""
        assert self.connection is not None
        while True:
            try:
                reply: list[Any] = self.connection.read_response(disconnect_on_error=False)
                return reply
            except redis.TimeoutError:
                if self.awaits_pong:
                    raise
                self.awaits_pong = True
                self._send("PING", ["?"])

    def _dispatch(self, reply: list[Any]) -> None:
        self.awaits_pong = False
        kind, channel = bytes(reply[0]), _text(reply[1])
        if kind == b"subscribe":
            self._confirm(channel)
        elif kind == b"message" and channel in self.handlers:
            self.handlers[channel](reply[2])
        elif kind == b"message":
            message = messages.decode(reply[2])
            for subscription in self.subscriptions.get(channel, ()):
                subscription.deliver(message)

    def _confirm(self, channel: str) -> None:
        of_channel = self.subscriptions.get(channel, [])
        for subscription in of_channel:
            if subscription.confirmed.is_set():
                # Confirmed before, so this is a new connection, and messages may have been missed.
                subscription.inbox.put(RECONNECTED)
            subscription.confirmed.set()
        if not of_channel and channel not in self.handlers:
            self._unsubscribe_soon(channel)


def _text(channel: bytes | str | None) -> str:
    return channel.decode() if isinstance(channel, bytes) else channel or ""
