"""What running jobs say while they run: logged and published, many streams with one command.

One greenlet of a worker owns the one connection. What has piled up in any stream while the last
command was on its way goes out with the next, each stream's part as one message.
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
#: A job whose words pile up beyond this waits, and so does its provider.
MAX_UNSENT_BYTES = 1024 * 1024
#: One message; what is more goes out with the next.
MAX_MESSAGE_BYTES = 64 * 1024
#: After the first event and each so many, others have their turn.
EVENTS_A_TURN = 50
#: How often a job that waits looks whether it still should.
CHECK_SECONDS = 1


@dataclass(eq=False)
class Stream:
    """What one attempt at a job has said."""

    job_id: str
    attempt: int
    call: Call
    #: Who says it.
    source: Source = UNKNOWN_SOURCE
    #: The number of the last event.
    number: int = 0
    unsent: list[bytes] = field(default_factory=list)
    unsent_bytes: int = 0
    #: Said and published: the events from `kept_from` on.
    kept: list[bytes] = field(default_factory=list)
    kept_from: int = 1
    kept_bytes: int = 0
    #: Whether the row says that something was said.
    is_noted: bool = False
    #: Set while there is room for more, and while nothing is unsent or under way.
    room: Event = field(default_factory=Event)
    quiet: Event = field(default_factory=Event)

    def __post_init__(self) -> None:
        self.room.set()
        self.quiet.set()

    def say(self, event: bytes) -> None:
        """Publish one event soon; wait where too much is unsent. Raises what ends the call."""
        self.number += 1
        self.unsent.append(event)
        self.unsent_bytes += len(event)
        self.quiet.clear()
        publisher().wake(self)
        if self.unsent_bytes > MAX_UNSENT_BYTES:
            self.room.clear()
            self._wait(self.room)
        elif self.number % EVENTS_A_TURN == 1:
            # A provider that says much at once would keep the loop, and its first words, to itself.
            gevent.sleep(0)

    def flush(self) -> None:
        """Wait until all is published; raise what ends the call before."""
        self._wait(self.quiet)

    def _wait(self, event: Event) -> None:
        while not event.wait(CHECK_SECONDS):
            self.call.check()

    def end(self, tail: Sequence[bytes]) -> tuple[Events, Events]:
        """Return the last events, which are not published here, and with them all that is kept."""
        last = self.number + len(tail)
        ends = Events(self.attempt, self.number + 1, last, self.source, b"".join(tail))
        data = b"".join([*self.kept, *self.unsent, *tail])
        return ends, Events(self.attempt, self.kept_from, last, self.source, data)

    def take(self) -> Events:
        """Move what is unsent, or the beginning of it, to what is kept, as one message."""
        count = _count_of(self.unsent)
        taken, self.unsent = self.unsent[:count], self.unsent[count:]
        first = self.kept_from + len(self.kept)
        self.kept += taken
        data = b"".join(taken)
        self.kept_bytes += len(data)
        self.unsent_bytes -= len(data)
        return Events(self.attempt, first, first + count - 1, self.source, data)

    def forget_first_half(self) -> int:
        """Drop the first half of what is kept; return the number of the first event left."""
        half = (len(self.kept) + 1) // 2
        dropped, self.kept = self.kept[:half], self.kept[half:]
        self.kept_bytes -= sum(map(len, dropped))
        self.kept_from += half
        return self.kept_from


def _count_of(events: Sequence[bytes]) -> int:
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
        #: Streams with something unsent, in the order in which they spoke.
        self.waiting: dict[Stream, None] = {}
        #: Every stream that has not ended: their logs are bounded together.
        self.running: set[Stream] = set()
        self.awake = Event()
        self.connection: redis.Connection | None = None
        self.script = b""
        self.greenlet = gevent.spawn(self._run)

    def open(self, job_id: str, attempt: int, call: Call) -> Stream:
        """Begin an attempt's stream; raise `Unavailable` where an earlier one has said something.

        What a worker that was taken for dead says from now on is refused.
        """
        try:
            begun = attempt == 1 or stream_log.begin(job_id, attempt)
        except redis.RedisError as error:
            raise Unavailable("The queue does not answer just now. Try again.") from error
        if not begun:
            raise Unavailable(messages.STREAM_BROKEN)
        stream = Stream(job_id, attempt, call)
        self.running.add(stream)
        return stream

    def close(self, stream: Stream) -> None:
        """Stop bounding a stream; what it says from now on is not published."""
        self.running.discard(stream)
        self.waiting.pop(stream, None)

    def newly_begun(self) -> list[str]:
        """Return the jobs that have said something since this was asked last."""
        begun = [stream for stream in self.running if stream.number and not stream.is_noted]
        for stream in begun:
            stream.is_noted = True
        return [stream.job_id for stream in begun]

    def wake(self, stream: Stream) -> None:
        """Publish what `stream` has not sent yet."""
        self.waiting[stream] = None
        self.awake.set()

    def _run(self) -> None:
        while True:
            self.awake.wait()
            self.awake.clear()
            speaking, self.waiting = list(self.waiting), {}
            try:
                self._speak(speaking)
            except Exception:  # A greenlet's outermost door: these streams cannot go on without it.
                log.exception("streams.broke", streams=len(speaking))
                for stream in speaking:
                    stream.call.abort(InternalError("Something went wrong on our side."))

    def _speak(self, speaking: list[Stream]) -> None:
        self._publish([(stream, stream.take()) for stream in speaking if stream.unsent])
        for stream in speaking:
            self._sent(stream)
        self._bound_logs()

    def _sent(self, stream: Stream) -> None:
        if stream.unsent_bytes <= MAX_UNSENT_BYTES:
            stream.room.set()
        if not stream.unsent:
            stream.quiet.set()
        elif stream in self.running:
            self.wake(stream)

    def _publish(self, group: list[tuple[Stream, Events]]) -> None:
        """Publish, again and again while Redis does not answer: a log has no gaps."""
        tries = 0
        while group:
            try:
                self._refused(group, self._append(group), again=tries > 0)
                return
            except (redis.RedisError, OSError) as error:
                log.warning("streams.publish_waits", streams=len(group), reason=str(error))
            self._disconnect()
            tries += 1
            gevent.sleep(RECONNECT_SECONDS)
            # What ended meanwhile needs no publishing any more.
            group = [(stream, events) for stream, events in group if stream in self.running]

    def _refused(self, group: list[tuple[Stream, Events]], replies: list[Any], again: bool) -> None:
        """End the calls whose events were refused, as another attempt has begun."""
        for (stream, _), accepted in zip(group, replies, strict=True):
            # Said again after a broken connection, an event may be there already.
            if not accepted and not again:
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

    def _bound_logs(self) -> None:
        """Drop the beginnings of the longest logs while all of them are too long together."""
        total = sum(stream.kept_bytes for stream in self.running)
        trims = []
        while total > settings.stream_log_bytes:
            longest = max(self.running, key=lambda stream: stream.kept_bytes)
            before = longest.kept_bytes
            first = longest.forget_first_half()
            total -= before - longest.kept_bytes
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
