"""The attempts of one call: who is asked next, with which key, after how long.

What follows an error is the table `RULES`; docs/decisions/0015 says why. No error of the caller's
is ever tried again, and nothing is once a word of the answer has gone out. Where each time costs,
as it does with images, nothing is that may have run: docs/decisions/0017.
"""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import structlog

from models.errors import (
    ContextLengthExceeded,
    InternalError,
    JobCancelled,
    LikeDoError,
    ModelGone,
    NoProvider,
    ProviderBusy,
    ProviderFailed,
    ProviderRefusedUs,
    ProviderTimeout,
    Unavailable,
)
from net.call import Call
from routing import breakers, keys
from routing.candidates import SANDBOX, C
from routing.keys import Cooldown, Key

T = TypeVar("T")


log = structlog.get_logger()

#: The pause before one more try: the first, and the longest as it doubles. A random part of up to
#: a half is left out, so that calls which failed together do not come back together.
FIRST_PAUSE_SECONDS = 0.5
MAX_PAUSE_SECONDS = 8
#: What a provider asks to wait is waited for up to this; for longer than that, it is not for us.
MAX_WAIT_SECONDS = 20
#: Whatever happens, one call asks no more often than this.
MAX_ATTEMPTS = 12


@dataclass(frozen=True)
class Rule:
    """What follows one kind of error."""

    #: How often one way is tried while it fails so, where there is another way and where not.
    tries: int
    tries_of_the_last: int
    #: Whether a pause comes before the next try, and what the breaker is told.
    pauses: bool = False
    tells: str = ""
    #: Whether another key of the same provider may do better.
    has_others: bool = False


#: An error that has no rule ends the call. The first that fits counts.
RULES: tuple[tuple[type[LikeDoError], Rule], ...] = (
    # The key is off from now on: there may be another.
    (ProviderRefusedUs, Rule(MAX_ATTEMPTS, MAX_ATTEMPTS, tells=breakers.REFUSED)),
    # So is the model.
    (ModelGone, Rule(1, 1)),
    # The key is busy: there may be another, which is not counted, or another way; else its time is
    # waited for.
    (ProviderBusy, Rule(3, 3, has_others=True)),
    # It may have run, and cost the operator; where there is another way, that is asked instead.
    (ProviderTimeout, Rule(1, 2, pauses=True, tells=breakers.FAILING)),
    # Broken connections, 5xx, answers that are none.
    (ProviderFailed, Rule(2, 3, pauses=True, tells=breakers.FAILING)),
    # Only a model with a longer context can do better.
    (ContextLengthExceeded, Rule(1, 1)),
)

#: What the caller is told of many failures: the first of these that occurred. Those that a retry
#: may mend come first.
_TELLING = (
    ProviderBusy,
    ProviderTimeout,
    ProviderFailed,
    ProviderRefusedUs,
    ModelGone,
    ContextLengthExceeded,
)

#: These end a call for reasons of ours, and say nothing of the provider.
_OURS = (Unavailable, JobCancelled, InternalError)


class Attempt(Generic[C]):
    """One provider being asked once, with one key."""

    def __init__(self, way: C, key: Key) -> None:
        self.way = way
        self.key = key
        self._begun = time.monotonic()
        self._went_well = False
        #: As it stands in the job's trail; `seconds` and `error` are filled in when it is over.
        self.record: dict[str, Any] = {
            "provider": way.provider.name,
            "upstream_model": way.upstream_model,
            "at": round(time.time(), 3),
            "seconds": None,
            "error": None,
        }

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._begun

    def goes_well(self) -> None:
        """Note that the answer is there, or its beginning; twice changes nothing."""
        if not self._went_well:
            self._went_well = True
            keys.record_success(self.key, self.way.upstream_model, self.seconds)

    def fails(self, error: LikeDoError, rule: Rule | None) -> None:
        """Note what that says of the key, the provider and the model."""
        if self.way.provider.name == SANDBOX or isinstance(error, _OURS):
            return
        provider, model = self.way.provider.name, self.way.upstream_model
        if rule is not None and rule.tells:
            # A 403 may be about this one model or prompt; many of them are about the key.
            is_about_one = error.upstream_status == 403
            reason = breakers.FAILING if is_about_one else rule.tells
            self.key.breaker.failed(reason, self.key.leave)
        elif self.key.leave.is_probe:
            # A refusal is an answer: the provider is back.
            self.key.breaker.succeeded(self.seconds, self.key.leave)
        if isinstance(error, ProviderBusy):
            keys.record_rate_limited(self.key, model, error.stated_delay)
        if isinstance(error, ModelGone):
            log.error("route.model_gone", provider=provider, model=model)
            keys.has_gone(provider, model)

    def close(self, error: LikeDoError | None) -> None:
        self.record["seconds"] = round(self.seconds, 3)
        self.record["error"] = error.code if error else None


class Attempts(Generic[C]):
    """The ways of one call, and what became of them so far."""

    def __init__(
        self,
        ways: Sequence[C],
        call: Call,
        trail: list[dict[str, Any]],
        has_spoken: Callable[[], bool] = lambda: False,
        told: Callable[[], None] = lambda: None,
        costs_each_time: bool = False,
    ) -> None:
        """Try `ways` in order, under `call`, writing each attempt into `trail`.

        `has_spoken` tells whether something of an answer has gone out; `told` is called when an
        attempt has failed and another follows. Where it `costs_each_time`, that is so only if
        nothing can have run, and a way has all the time there is.
        """
        self.call = call
        self.trail = trail
        self._has_spoken = has_spoken
        self._told = told
        self._costs_each_time = costs_each_time
        self._ways = _those_there_first(ways)
        self._tries = dict.fromkeys(range(len(self._ways)), 0)
        self._made = 0
        self._failures: list[LikeDoError] = []

    def answer(self, ask: Callable[[Attempt[C]], T]) -> T:
        """Return the first answer that `ask` brings from one of the ways.

        Raises what the caller is best told of all that failed; `ProviderBusy` or `NoProvider`
        where nobody could be asked; and what `call` was aborted with.
        """
        while True:
            place, key = self._next()
            attempt = Attempt(self._ways[place], key)
            self.trail.append(attempt.record)
            self._give_time(place)
            try:
                found = ask(attempt)
            except LikeDoError as error:
                attempt.close(error)
                self.call.allow(None)
                self._go_on(place, attempt, error)
            else:
                attempt.close(None)
                attempt.goes_well()
                return found

    def _next(self) -> tuple[int, Key]:
        """Return the first way that can be asked now; wait where that is only a matter of time."""
        while self._tries and self._made < MAX_ATTEMPTS:
            rests = []
            for place in self._tries:
                way = self._ways[place]
                found = keys.choose(way.provider.name, way.upstream_model)
                if isinstance(found, Key):
                    self._made += 1
                    return place, found
                rests.append(found)
            soonest = min(rests, key=lambda rest: (not rest.busy, rest.seconds))
            if not soonest.busy or soonest.seconds > self._most_wait():
                raise self._exhausted(soonest)
            self.call.wait(soonest.seconds * random.uniform(1, 1.1))
        raise self._exhausted(None)

    def _most_wait(self) -> float:
        return min(MAX_WAIT_SECONDS, self.call.seconds_left)

    def _give_time(self, place: int) -> None:
        """Give a plain answer half of the time where there is another way to ask after it.

        A stream's reader gives time for the first token, and for each that follows.
        """
        others = len(self._tries) > 1 and not self._costs_each_time
        self.call.allow(self.call.seconds_left / 2 if others else None)

    def _go_on(self, place: int, attempt: Attempt[C], error: LikeDoError) -> None:
        """Prepare what follows an error; raise it where nothing does."""
        rule = _rule(error)
        attempt.fails(error, rule)
        final = attempt.way.provider.name == SANDBOX or self._has_spoken() or self.call.is_over
        if rule is None or final or (self._costs_each_time and not error.nothing_ran):
            raise error
        log.info("attempt.failed", reason=error.message, **attempt.record)
        self._failures.append(error)
        self._count(place, rule)
        if isinstance(error, ContextLengthExceeded):
            self._keep_longer(attempt.way)
        self._told()
        if rule.pauses and place in self._tries:
            self._pause(place, error)

    def _count(self, place: int, rule: Rule) -> None:
        """Count a try of one way, and give the way up where that was the last of its tries."""
        self._tries[place] += 1
        most = rule.tries if len(self._tries) > 1 else rule.tries_of_the_last
        if rule.has_others:
            most += keys.size(self._ways[place].provider.name) - 1
        if self._tries[place] >= most:
            del self._tries[place]

    def _keep_longer(self, way: C) -> None:
        """Give up the ways whose context is no longer than that of `way`."""
        for place in list(self._tries):
            if self._ways[place].context_tokens <= way.context_tokens:
                del self._tries[place]

    def _pause(self, place: int, error: LikeDoError) -> None:
        pause = min(MAX_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** (self._tries[place] - 1))
        pause = max(pause * random.uniform(0.5, 1), error.stated_delay or 0)
        if pause <= self._most_wait():
            self.call.wait(pause)
        else:
            del self._tries[place]

    def _exhausted(self, soonest: Cooldown | None) -> LikeDoError:
        """Return what the caller is told when nobody can be asked any more."""
        for kind in _TELLING:
            for failure in self._failures:
                if type(failure) is kind:
                    return failure
        if self._failures:
            return self._failures[-1]
        names = " and ".join(dict.fromkeys(way.provider.name for way in self._ways))
        seconds = soonest.seconds if soonest else None
        if soonest and soonest.busy:
            return ProviderBusy(f"{names}: busy. Try again later.", retry_after=seconds)
        return NoProvider(
            f"No provider can answer just now: {names} failed too often and is left alone for a "
            "moment. Try again shortly.",
            retry_after=seconds,
        )


def _rule(error: LikeDoError) -> Rule | None:
    return next((rule for kind, rule in RULES if isinstance(error, kind)), None)


def _those_there_first(ways: Sequence[C]) -> list[C]:
    """Return `ways` without those whose model its vendor does not have, unless all are so."""
    there = [way for way in ways if not keys.record_gone(way.provider.name, way.upstream_model)]
    return there or list(ways)
