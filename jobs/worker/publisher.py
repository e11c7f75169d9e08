"""The publisher: logs and publishes the events of all running streams, many with one command.

One greenlet of a worker owns the one connection. Events that arrive while a command is on its way
are sent with the next command, as one message for each stream.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import gevent
import redis
import structlog
from gevent.event import Event

from config import redis as redis_config
from config.settings import settings
from jobs.streaming import log as stream_log
from jobs.streaming import messages
from jobs.streaming.messages import UNKNOWN_SOURCE, Events, Source
from models.errors import InternalError, Unavailable
from net.call import Call

log = structlog.get_logger()

RECONNECT_SECONDS = 0.5
#: A stream with more unsent bytes than this waits, and so does its provider.
MAX_UNSENT_BYTES = 1024 * 1024
#: The maximum size of one message; further events go out with the next.
MAX_MESSAGE_BYTES = 64 * 1024
#: A stream yields to other greenlets after its first event and after each so many.
EVENTS_PER_TURN = 50
#: How often a waiting stream checks whether its call was aborted.
CHECK_SECONDS = 1


@dataclass(eq=False)
class Stream:
    """The events of one attempt at a job."""

    job_id: str
    attempt: int
    call: Call
    #: The provider that the events come from.
    source: Source = UNKNOWN_SOURCE
    #: The number of the last event.
    last_number: int = 0
    unsent: list[bytes] = field(default_factory=list)
    unsent_bytes: int = 0
    #: The events that were published, from number `published_from` on.
    published: list[bytes] = field(default_factory=list)
    published_from: int = 1
    published_bytes: int = 0
    #: Whether the job's row records that the stream has begun.
    is_begun_recorded: bool = False
    #: Set while more may be added.
    has_room: Event = field(default_factory=Event)
    #: Set while nothing is unsent or on its way.
    is_flushed: Event = field(default_factory=Event)

    def __post_init__(self) -> None:
        self.has_room.set()
        self.is_flushed.set()

    def publish(self, event: bytes) -> None:
        """Publish one event soon; wait if too much is unsent. Raises why the call ended."""
        self.last_number += 1
        self.unsent.append(event)
        self.unsent_bytes += len(event)
        self.is_flushed.clear()
        publisher().wake(self)
        if self.unsent_bytes > MAX_UNSENT_BYTES:
            self.has_room.clear()
            self._wait(self.has_room)
        elif self.last_number % EVENTS_PER_TURN == 1:
            # A provider that sends much at once would block the loop, and its own first event.
            gevent.sleep(0)

    def flush(self) -> None:
        """Wait until everything is published. Raises why the call ended."""
        self._wait(self.is_flushed)

    def _wait(self, event: Event) -> None:
        while not event.wait(CHECK_SECONDS):
            self.call.check()

    def end(self, tail: Sequence[bytes]) -> tuple[Events, Events]:
        """Return the last events, which are not published here, and the whole stream with them."""
        last = self.last_number + len(tail)
        last_events = Events(self.attempt, self.last_number + 1, last, self.source, b"".join(tail))
        data = b"".join([*self.published, *self.unsent, *tail])
        return last_events, Events(self.attempt, self.published_from, last, self.source, data)

    def next_message(self) -> Events:
        """Move unsent events, as many as fit, to the published ones; return them as a message."""
        count = _message_length(self.unsent)
        sending, self.unsent = self.unsent[:count], self.unsent[count:]
        first = self.published_from + len(self.published)
        self.published += sending
        data = b"".join(sending)
        self.published_bytes += len(data)
        self.unsent_bytes -= len(data)
        return Events(self.attempt, first, first + count - 1, self.source, data)

    def drop_first_half(self) -> int:
        """Forget the first half of the published events; return the number of the first left."""
        half = (len(self.published) + 1) // 2
        dropped, self.published = self.published[:half], self.published[half:]
        self.published_bytes -= sum(map(len, dropped))
        self.published_from += half
        return self.published_from


def _message_length(events: Sequence[bytes]) -> int:
    """Return how many of `events` make one message: one, and more if they fit."""
    size = 0
    for count, event in enumerate(events):
        size += len(event)
        if count and size > MAX_MESSAGE_BYTES:
            return count
    return len(events)


class Publisher:
    """The one connection on which a worker publishes its streams."""

    def __init__(self) -> None:
        #: Streams with unsent events, in the order in which they got them.
        self.pending: dict[Stream, None] = {}
        #: Every stream that has not ended: the size of their logs is bounded together.
        self.open_streams: set[Stream] = set()
        self.has_pending = Event()
        self.connection: redis.Connection | None = None
        self.script = b""
        self.greenlet = gevent.spawn(self._run)

    def open(self, job_id: str, attempt: int, call: Call) -> Stream:
        """Begin an attempt's stream; raise `Unavailable` if an earlier attempt has published.

        From now on, events of a worker that was taken for dead are refused.
        """
        try:
            may_begin = attempt == 1 or stream_log.begin(job_id, attempt)
        except redis.RedisError as error:
            raise Unavailable("The queue does not answer just now. Try again.") from error
        if not may_begin:
            raise Unavailable(messages.STREAM_BROKEN)
        stream = Stream(job_id, attempt, call)
        self.open_streams.add(stream)
        return stream

    def close(self, stream: Stream) -> None:
        """Stop tracking a stream; events added from now on are not published."""
        self.open_streams.discard(stream)
        self.pending.pop(stream, None)

    def newly_begun(self) -> list[str]:
        """Return the ids of the jobs whose streams have begun since the last call of this."""
        begun = [
            stream
            for stream in self.open_streams
            if stream.last_number and not stream.is_begun_recorded
        ]
        for stream in begun:
            stream.is_begun_recorded = True
        return [stream.job_id for stream in begun]

    def wake(self, stream: Stream) -> None:
        """Publish the unsent events of `stream` soon."""
        self.pending[stream] = None
        self.has_pending.set()

    def _run(self) -> None:
        while True:
            self.has_pending.wait()
            self.has_pending.clear()
            streams, self.pending = list(self.pending), {}
            try:
                self._publish_all(streams)
            except (
                Exception
            ):  # A greenlet's outermost handler: these streams cannot go on without it.
                log.exception("streams.failed", streams=len(streams))
                for stream in streams:
                    stream.call.abort(InternalError("Something went wrong on our side."))

    def _publish_all(self, streams: list[Stream]) -> None:
        self._publish([(stream, stream.next_message()) for stream in streams if stream.unsent])
        for stream in streams:
            self._after_publish(stream)
        self._trim_logs()

    def _after_publish(self, stream: Stream) -> None:
        if stream.unsent_bytes <= MAX_UNSENT_BYTES:
            stream.has_room.set()
        if not stream.unsent:
            stream.is_flushed.set()
        elif stream in self.open_streams:
            self.wake(stream)

    def _publish(self, group: list[tuple[Stream, Events]]) -> None:
        """Publish, again and again while Redis does not answer: a log has no gaps."""
        tries = 0
        while group:
            try:
                self._abort_refused(group, self._append(group), is_retry=tries > 0)
                return
            except (redis.RedisError, OSError) as error:
                log.warning("streams.publish_delayed", streams=len(group), reason=str(error))
            self._disconnect()
            tries += 1
            gevent.sleep(RECONNECT_SECONDS)
            # Streams that ended meanwhile need not be published any more.
            group = [(stream, events) for stream, events in group if stream in self.open_streams]

    def _abort_refused(
        self, group: list[tuple[Stream, Events]], replies: list[Any], is_retry: bool
    ) -> None:
        """End the calls whose events were refused because another attempt has begun."""
        for (stream, _), is_accepted in zip(group, replies, strict=True):
            # After a broken connection, an event that is sent again may be there already.
            if not is_accepted and not is_retry:
                stream.call.abort(Unavailable("The job is another worker's by now."))

    def _append(self, group: list[tuple[Stream, Events]]) -> list[Any]:
        self._connect()
        return self._send(
            ["EVALSHA", self.script, *stream_log.append_arguments(stream.job_id, events)]
            for stream, events in group
        )

    def _send(self, commands: Any) -> list[Any]:
        """Send commands in one write and return their replies; raise the first error."""
        assert self.connection is not None
        packed = list(commands)
        self.connection.send_packed_command(
            self.connection.pack_commands(packed), check_health=False
        )
        replies = [self._reply() for _ in packed]
        for reply in replies:
            if isinstance(reply, redis.ResponseError):
                raise reply
        return replies

    def _reply(self) -> Any:
        assert self.connection is not None
        try:
            return self.connection.read_response(disconnect_on_error=False)
        except redis.ResponseError as error:
            return error

    def _connect(self) -> None:
        if self.connection is not None:
            return
        connection = redis_config.dedicated()
        connection.connect()
        self.connection = connection
        (self.script,) = self._send([["SCRIPT", "LOAD", stream_log.APPEND]])

    def _disconnect(self) -> None:
        if self.connection is not None:
            self.connection.disconnect()
            self.connection = None

    def _trim_logs(self) -> None:
        """Drop the beginnings of the longest logs while all of them are too long together."""
        total = sum(stream.published_bytes for stream in self.open_streams)
        trims = []
        while total > settings.stream_log_bytes:
            longest = max(self.open_streams, key=lambda stream: stream.published_bytes)
            before = longest.published_bytes
            first = longest.drop_first_half()
            total -= before - longest.published_bytes
            trims.append(stream_log.trim_command(longest.job_id, longest.attempt, first))
        if trims:
            self._trim(trims)

    def _trim(self, commands: list[list[Any]]) -> None:
        try:
            self._connect()
            self._send(commands)
        except (redis.RedisError, OSError) as error:
            log.warning("streams.trim_failed", reason=str(error))
            self._disconnect()


@cache
def publisher() -> Publisher:
    """Return this worker's publisher."""
    return Publisher()
