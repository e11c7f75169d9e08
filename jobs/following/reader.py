"""Reading a job's stream: each event once and in order, wherever it comes from.

New events come by pub/sub. Those that were missed, by a reader that started late, is slow or lost
its connection, come from the log. An end that no worker published is made from the job's row.
"""

import time
from collections.abc import Iterator

import orjson

from jobs.following.wait import POLL_SECONDS, WaitInterrupted, poll_end
from jobs.lifecycle import store
from jobs.streaming import log as stream_log
from jobs.streaming import sse
from jobs.streaming.messages import STREAM_BROKEN, Ended, Events
from jobs.streaming.pubsub import RECONNECTED, Subscription
from models import errors
from models.errors import LikeDoError, StreamLogGone, Unavailable
from models.job import Status

#: How long an unreadable log is retried, as while Redis is away.
LOG_RETRY_SECONDS = 60


class Reader:
    """One reader's position in one job's stream."""

    def __init__(self, subscription: Subscription, after: int = 0, streamed: bool = True) -> None:
        """Read the events after the one numbered `after`; a job not `streamed` only has an end."""
        self.subscription = subscription
        self.streamed = streamed
        #: Number and attempt of the last event that was read.
        self.number = after
        self.attempt = 0
        #: How the job ended, once that is known; and whether the stream's last event was read.
        self.ended: Ended | None = None
        self.complete = False
        #: Events to read before those of the inbox.
        self._backlog: Iterator[Events] = iter(())
        #: Since when the log could not be read; None while it can.
        self._log_failing_since: float | None = None

    def read(self, seconds: float) -> Events | Ended | WaitInterrupted | None:
        """Return the next events; None if there are none within `seconds`.

        After the last event, or if there are no events, returns how the job ended. Raises
        `StreamLogGone` if events are no longer kept, and a 503 if they cannot be read for long or
        another attempt has begun anew.
        """
        deadline = time.monotonic() + seconds
        while True:
            if (events := self._next_of_backlog()) is not None:
                return events
            if self.ended is not None and self._log_failing_since is None:
                return self.ended
            left = max(0.0, deadline - time.monotonic())
            message = self.subscription.get(min(POLL_SECONDS, left))
            if isinstance(message, WaitInterrupted):
                return message
            if isinstance(message, Events) and (events := self._accept(message)):
                return events
            if isinstance(message, Ended):
                self.end(message)
            elif (
                message is RECONNECTED
                or self._has_dropped()
                or (message is None and left > POLL_SECONDS)
            ):
                self._resync()
            elif message is None:
                return None

    def has_more(self) -> bool:
        """Tell whether the inbox holds messages that have not been read yet."""
        return not self.subscription.inbox.empty()

    def catch_up(self) -> None:
        """Read the following events of the log before those of the inbox."""
        self._backlog = stream_log.read(self.subscription.job_id, self.number)

    def _resync(self) -> None:
        """Find out from the log and the row which messages were missed."""
        if self.ended is not None:
            self.end(self.ended)
        elif (ended := poll_end(self.subscription.job_id)) is not None:
            self.end(ended)
        else:
            self.catch_up()

    def end(self, ended: Ended) -> None:
        """Read the remaining events of a job that has ended."""
        self.ended = ended
        self._backlog = self._remaining(ended)

    def _next_of_backlog(self) -> Events | None:
        try:
            for events in self._backlog:
                if (following := events.after(self.number)) is not None:
                    return self._advance(following)
        except Unavailable:
            self._retry_log_later()
        else:
            self._log_failing_since = None
        return None

    def _retry_log_later(self) -> None:
        """Leave the log until the next poll; raise `Unavailable` if it has failed for long."""
        now = time.monotonic()
        self._log_failing_since = self._log_failing_since or now
        if now - self._log_failing_since > LOG_RETRY_SECONDS:
            raise Unavailable("The stream cannot be read just now. Try again.")
        self._backlog = iter(())

    def _has_dropped(self) -> bool:
        """Tell whether the inbox was full since the last call of this."""
        has_dropped, self.subscription.has_dropped = self.subscription.has_dropped, False
        return has_dropped

    def _accept(self, events: Events) -> Events | None:
        """Return the new ones of `events`; None if none is new, or one before them is missing."""
        if events.attempt < self.attempt or (following := events.after(self.number)) is None:
            return None
        if following.first > self.number + 1:
            self.catch_up()
            return None
        return self._advance(following)

    def _advance(self, events: Events) -> Events:
        if self.attempt and events.attempt != self.attempt:
            # Redis was emptied, so no worker could know that the first attempt had published.
            raise _StreamBroken(STREAM_BROKEN)
        self.number, self.attempt = events.last, events.attempt
        self.complete = sse.is_end(events.data)
        return events

    def _remaining(self, ended: Ended) -> Iterator[Events]:
        if not self.streamed or ended.events is None:
            return  # There are no events.
        if ended.tail is not None and ended.tail.first <= self.number + 1:
            yield ended.tail
            return
        yield from stream_log.read(self.subscription.job_id, self.number)
        if self.complete:
            return
        if self.number < ended.events:
            raise StreamLogGone("What follows in this stream is not kept any more.")
        if ended.status == Status.COMPLETED:
            yield self._tail_from_row()

    def _tail_from_row(self) -> Events:
        """Make the tail of an answer that was paid for, which its worker did not publish."""
        row = store.find(self.subscription.job_id)
        body = store.result(self.subscription.job_id)
        if row is None or body is None or row.events is None:
            raise StreamLogGone("The end of this stream is not kept any more.")
        tail = sse.tail(orjson.loads(body), row.include_usage)
        first, last = row.events + 1, row.events + len(tail)
        return Events(row.attempts, first, last, store.source(row), b"".join(tail))


class _StreamBroken(LikeDoError):
    """The stream cannot go on. It is no `Unavailable`, which the reader would retry."""

    status, type, code = 503, "server_error", "unavailable"
    retryable = True


def failure(ended: Ended) -> LikeDoError:
    """Return the error with which a job ended."""
    return errors.from_record(ended.error or {})
