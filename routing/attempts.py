"""The attempts of one call: which provider is called next, with which key, after how long.

The table `RULES` says what follows an error; docs/decisions/0015 gives the reasons. A caller's
error is never retried, nor is any error once part of the answer has gone out. If each call costs,
as with images, a call that may have run is not retried either: docs/decisions/0017.
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

#: The backoff before a retry: the first, and the longest as it doubles. A random part of up to a
#: half is taken off, so that calls which failed together do not come back together.
FIRST_PAUSE_SECONDS = 0.5
MAX_PAUSE_SECONDS = 8
#: A delay that a provider states is kept up to this; with a longer one it is not tried again.
MAX_WAIT_SECONDS = 20
#: One call makes no more attempts than this, whatever happens.
MAX_ATTEMPTS = 12


@dataclass(frozen=True)
class Rule:
    """What follows one type of error."""

    #: How often one candidate is tried while it fails so: if others are left, and if none is.
    tries: int
    tries_of_the_last: int
    #: Whether to pause before a retry.
    pauses: bool = False
    #: The reason with which the breaker records a failure; if empty, it records none.
    breaker_reason: str = ""
    #: Whether another key of the same provider may do better.
    tries_other_keys: bool = False


#: The first rule that fits counts. An error without a rule ends the call.
RULES: tuple[tuple[type[LikeDoError], Rule], ...] = (
    # The breaker opens for this key; there may be another.
    (ProviderRefusedUs, Rule(MAX_ATTEMPTS, MAX_ATTEMPTS, breaker_reason=breakers.REFUSED)),
    # The model is gone: only another candidate can do better.
    (ModelGone, Rule(1, 1)),
    # The key is rate limited: try another one, which does not count as a try, or another
    # candidate; else wait out its cooldown.
    (ProviderBusy, Rule(3, 3, tries_other_keys=True)),
    # It may have run, and cost the operator; if there is another candidate, try that instead.
    (ProviderTimeout, Rule(1, 2, pauses=True, breaker_reason=breakers.FAILING)),
    # Broken connections, 5xx, invalid answers.
    (ProviderFailed, Rule(2, 3, pauses=True, breaker_reason=breakers.FAILING)),
    # Only a model with a longer context can do better.
    (ContextLengthExceeded, Rule(1, 1)),
)

#: Of several failures, the caller gets the first of these that occurred. Those that a retry may
#: mend come first.
_PRECEDENCE = (
    ProviderBusy,
    ProviderTimeout,
    ProviderFailed,
    ProviderRefusedUs,
    ModelGone,
    ContextLengthExceeded,
)

#: These end a call for reasons of ours, and say nothing about the provider.
_OURS = (Unavailable, JobCancelled, InternalError)


class Attempt(Generic[C]):
    """One call to one provider, with one key."""

    def __init__(self, candidate: C, key: Key) -> None:
        self.candidate = candidate
        self.key = key
        self._begun = time.monotonic()
        self._has_succeeded = False
        #: Its entry in the job's trail; `seconds` and `error` are filled in when it is over.
        self.record: dict[str, Any] = {
            "provider": candidate.provider.name,
            "upstream_model": candidate.upstream_model,
            "at": round(time.time(), 3),
            "seconds": None,
            "error": None,
        }

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._begun

    def record_success(self) -> None:
        """Record that the answer, or its first chunk, is there. Idempotent."""
        if not self._has_succeeded:
            self._has_succeeded = True
            keys.record_success(self.key, self.candidate.upstream_model, self.seconds)

    def record_failure(self, error: LikeDoError, rule: Rule | None) -> None:
        """Record what `error` shows about the key, the provider and the model."""
        if self.candidate.provider.name == SANDBOX or isinstance(error, _OURS):
            return
        provider, model = self.candidate.provider.name, self.candidate.upstream_model
        if rule is not None and rule.breaker_reason:
            # A 403 may be about this one model or prompt; many of them are about the key.
            is_forbidden = error.upstream_status == 403
            reason = breakers.FAILING if is_forbidden else rule.breaker_reason
            self.key.breaker.failed(reason, self.key.permit)
        elif self.key.permit.is_probe:
            # A refusal is an answer, too: the provider is back.
            self.key.breaker.succeeded(self.seconds, self.key.permit)
        if isinstance(error, ProviderBusy):
            keys.record_rate_limited(self.key, model, error.stated_delay)
        if isinstance(error, ModelGone):
            log.error("route.model_gone", provider=provider, model=model)
            keys.record_gone(provider, model)

    def close(self, error: LikeDoError | None) -> None:
        self.record["seconds"] = round(self.seconds, 3)
        self.record["error"] = error.code if error else None


class Attempts(Generic[C]):
    """The candidates of one call, and how they have fared so far."""

    def __init__(
        self,
        candidates: Sequence[C],
        call: Call,
        trail: list[dict[str, Any]],
        has_spoken: Callable[[], bool] = lambda: False,
        on_retry: Callable[[], None] = lambda: None,
        costs_each_time: bool = False,
    ) -> None:
        """Try `candidates` in order, under `call`, appending each attempt to `trail`.

        `has_spoken` tells whether part of an answer has gone out; `on_retry` is called when an
        attempt has failed and another follows. If it `costs_each_time`, another follows only if
        nothing can have run, and each attempt gets all the time that is left.
        """
        self.call = call
        self.trail = trail
        self._has_spoken = has_spoken
        self._on_retry = on_retry
        self._costs_each_time = costs_each_time
        self._candidates = _without_gone(candidates)
        #: How often each candidate that is left was tried, by its index.
        self._tries = dict.fromkeys(range(len(self._candidates)), 0)
        self._attempts_made = 0
        self._failures: list[LikeDoError] = []

    def answer(self, ask: Callable[[Attempt[C]], T]) -> T:
        """Return the first answer that `ask` gets from one of the candidates.

        Raises the failure that helps the caller most; `ProviderBusy` or `NoProvider` if no provider
        could be called; and what `call` was aborted with.
        """
        while True:
            index, key = self._next()
            attempt = Attempt(self._candidates[index], key)
            self.trail.append(attempt.record)
            self._allow_time()
            try:
                answer = ask(attempt)
            except LikeDoError as error:
                attempt.close(error)
                self.call.allow(None)
                self._prepare_retry(index, attempt, error)
            else:
                attempt.close(None)
                attempt.record_success()
                return answer

    def _next(self) -> tuple[int, Key]:
        """Return the first candidate that can be tried now, and its key; wait for a rate limit."""
        while self._tries and self._attempts_made < MAX_ATTEMPTS:
            cooldowns = []
            for index in self._tries:
                candidate = self._candidates[index]
                key = keys.choose(candidate.provider.name, candidate.upstream_model)
                if isinstance(key, Key):
                    self._attempts_made += 1
                    return index, key
                cooldowns.append(key)
            cooldown = keys.shortest(cooldowns)
            if not cooldown.busy or cooldown.seconds > self._max_wait():
                raise self._exhausted(cooldown)
            self.call.wait(cooldown.seconds * random.uniform(1, 1.1))
        raise self._exhausted(None)

    def _max_wait(self) -> float:
        return min(MAX_WAIT_SECONDS, self.call.seconds_left)

    def _allow_time(self) -> None:
        """Allow a plain answer half of the time that is left if another candidate may follow.

        A stream's reader allows time for the first token, and for each that follows.
        """
        has_others = len(self._tries) > 1 and not self._costs_each_time
        self.call.allow(self.call.seconds_left / 2 if has_others else None)

    def _prepare_retry(self, index: int, attempt: Attempt[C], error: LikeDoError) -> None:
        """Prepare the attempt that follows `error`; raise it if none may."""
        rule = _rule(error)
        attempt.record_failure(error, rule)
        is_final = (
            attempt.candidate.provider.name == SANDBOX or self._has_spoken() or self.call.is_over
        )
        if rule is None or is_final or (self._costs_each_time and not error.nothing_ran):
            raise error
        log.info("attempt.failed", reason=error.message, **attempt.record)
        self._failures.append(error)
        self._count_try(index, rule)
        if isinstance(error, ContextLengthExceeded):
            self._keep_longer_contexts(attempt.candidate)
        self._on_retry()
        if rule.pauses and index in self._tries:
            self._pause(index, error)

    def _count_try(self, index: int, rule: Rule) -> None:
        """Count a try of one candidate, and drop the candidate if it was its last."""
        self._tries[index] += 1
        max_tries = rule.tries if len(self._tries) > 1 else rule.tries_of_the_last
        if rule.tries_other_keys:
            max_tries += keys.size(self._candidates[index].provider.name) - 1
        if self._tries[index] >= max_tries:
            del self._tries[index]

    def _keep_longer_contexts(self, failed: C) -> None:
        """Drop the candidates whose context is no longer than that of the `failed` one."""
        for index in list(self._tries):
            if self._candidates[index].context_tokens <= failed.context_tokens:
                del self._tries[index]

    def _pause(self, index: int, error: LikeDoError) -> None:
        pause = min(MAX_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** (self._tries[index] - 1))
        pause = max(pause * random.uniform(0.5, 1), error.stated_delay or 0)
        if pause <= self._max_wait():
            self.call.wait(pause)
        else:
            del self._tries[index]

    def _exhausted(self, cooldown: Cooldown | None) -> LikeDoError:
        """Return the error for the caller when no candidate can be tried any more."""
        for kind in _PRECEDENCE:
            for failure in self._failures:
                if type(failure) is kind:
                    return failure
        if self._failures:
            return self._failures[-1]
        names = " and ".join(
            dict.fromkeys(candidate.provider.name for candidate in self._candidates)
        )
        seconds = cooldown.seconds if cooldown else None
        if cooldown and cooldown.busy:
            return ProviderBusy(f"{names}: busy. Try again later.", retry_after=seconds)
        return NoProvider(
            f"No provider can answer just now: {names} failed too often and is left alone for a "
            "moment. Try again shortly.",
            retry_after=seconds,
        )


def _rule(error: LikeDoError) -> Rule | None:
    return next((rule for kind, rule in RULES if isinstance(error, kind)), None)


def _without_gone(candidates: Sequence[C]) -> list[C]:
    """Return `candidates` without those whose vendor no longer has the model, unless all are so."""
    left = [
        each for each in candidates if not keys.is_gone(each.provider.name, each.upstream_model)
    ]
    return left or list(candidates)
