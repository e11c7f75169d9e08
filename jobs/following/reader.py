"""Reading a job's stream: each event once and in order, wherever it comes from.

The bell brings what is said now; what was missed, by a reader that came late, was slow or lost its
connection, comes from the log; and the end that nobody said is made from the job's row.
"""

import time
from collections.abc import Iterator

import orjson

from jobs.following import wait
from jobs.following.wait import LOOK_SECONDS, WaitInterrupted
from jobs.lifecycle import store
from jobs.streaming import log as stream_log
from jobs.streaming import sse
from jobs.streaming.messages import BROKEN_OFF, Ended, Events
from jobs.streaming.pubsub import RECONNECTED, Subscription
from models import errors
from models.errors import LikeDoError, StreamLogGone, Unavailable
from models.job import Status

#: A log that cannot be read, as while Redis is away, is tried again for so long.
BLIND_SECONDS = 60


class Reader:
    """One reader's place in one job's stream."""

    def __init__(self, waiter: Subscription, after: int = 0, streamed: bool = True) -> None:
        """Read what follows the event numbered `after`; a job not `streamed` has its end alone."""
        self.waiter = waiter
        self.streamed = streamed
        self.number = after
        self.attempt = 0
        #: How the job ended, once that is known; and whether the stream's last event was read.
        self.ended: Ended | None = None
        self.complete = False
        self._missed: Iterator[Events] = iter(())
        #: Since when the log could not be read; None while it can.
        self._blind_since: float | None = None

    def read(self, seconds: float) -> Events | Ended | WaitInterrupted | None:
        """Return the events that follow; None where there are none within `seconds`.

        After the last of them, or where there are none, returns how the job ended. Raises
        `StreamLogGone` where some are not kept any more, and `Unavailable` where they cannot be
        read for long, or another attempt has begun anew.
        """
        deadline = time.monotonic() + seconds
        while True:
            if (events := self._next_missed()) is not None:
                return events
            if self.ended is not None and self._blind_since is None:
                return self.ended
            left = max(0.0, deadline - time.monotonic())
            heard = self.waiter.get(min(LOOK_SECONDS, left))
            if isinstance(heard, WaitInterrupted):
                return heard
            if isinstance(heard, Events) and (events := self._take(heard)):
                return events
            if isinstance(heard, Ended):
                self.end(heard)
            elif (
                heard is RECONNECTED
                or self._fell_behind()
                or (heard is None and left > LOOK_SECONDS)
            ):
                self.look()
            elif heard is None:
                return None

    def has_more(self) -> bool:
        """Tell whether something was heard that has not been read yet."""
        return not self.waiter.heard.empty()

    def catch_up(self) -> None:
        """Read what the log has that follows, before anything that is said from now on."""
        self._missed = stream_log.read(self.waiter.job_id, self.number)

    def look(self) -> None:
        """Find out from log and row what the bell did not bring."""
        if self.ended is not None:
            self.end(self.ended)
        elif (ended := wait.look_around(self.waiter.job_id)) is not None:
            self.end(ended)
        else:
            self.catch_up()

    def end(self, ended: Ended) -> None:
        """Read on to the end of a job that has ended so."""
        self.ended = ended
        self._missed = self._rest(ended)

    def _next_missed(self) -> Events | None:
        try:
            for events in self._missed:
                if (following := events.after(self.number)) is not None:
                    return self._give(following)
        except Unavailable:
            self._wait_for_sight()
        else:
            self._blind_since = None
        return None

    def _wait_for_sight(self) -> None:
        """Leave the log for the next look, unless it was not readable for long."""
        now = time.monotonic()
        self._blind_since = self._blind_since or now
        if now - self._blind_since > BLIND_SECONDS:
            raise Unavailable("The stream cannot be read just now. Try again.")
        self._missed = iter(())

    def _fell_behind(self) -> bool:
        """Tell whether something was dropped, as it was more than may wait for one reader."""
        missed, self.waiter.missed = self.waiter.missed, False
        return missed

    def _take(self, events: Events) -> Events | None:
        """Return what is new in `events`; None where nothing is, or something before it is."""
        if events.attempt < self.attempt or (following := events.after(self.number)) is None:
            return None
        if following.first > self.number + 1:
            self.catch_up()
            return None
        return self._give(following)

    def _give(self, events: Events) -> Events:
        if self.attempt and events.attempt != self.attempt:
            # Redis was emptied, so nobody could know that the first attempt had said something.
            raise _BrokenOff(BROKEN_OFF)
        self.number, self.attempt = events.last, events.attempt
        self.complete = sse.is_end(events.data)
        return events

    def _rest(self, ended: Ended) -> Iterator[Events]:
        """Yield what is left to read of a job that has ended."""
        if not self.streamed or ended.events is None:
            return  # Nothing was said.
        if ended.tail is not None and ended.tail.first <= self.number + 1:
            yield ended.tail
            return
        yield from stream_log.read(self.waiter.job_id, self.number)
        if self.complete:
            return
        if self.number < ended.events:
            raise StreamLogGone("What follows in this stream is not kept any more.")
        if ended.status == Status.COMPLETED:
            yield self._made_tail()

    def _made_tail(self) -> Events:
        """Make the last events of an answer that was paid for, whose worker did not say them."""
        row = store.find(self.waiter.job_id)
        body = store.result(self.waiter.job_id)
        if row is None or body is None or row.events is None:
            raise StreamLogGone("The end of this stream is not kept any more.")
        tail = sse.tail(orjson.loads(body), row.include_usage)
        first, last = row.events + 1, row.events + len(tail)
        return Events(row.attempts, first, last, store.source(row), b"".join(tail))


class _BrokenOff(LikeDoError):
    """What was read cannot go on; unlike what cannot be read just now, that does not pass."""

    status, type, code = 503, "server_error", "unavailable"
    retryable = True


def failure(ended: Ended) -> LikeDoError:
    """Return the error with which a job ended."""
    return errors.from_record(ended.error or {})
