"""Looking up the names of hosts that others chose: few at a time, each source in its turn.

A name whose servers do not answer takes a thread for as long as the resolver tries, whether anybody
still waits or not. So one source has one look-up at a time, and sources take turns.
"""

import socket
import threading
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import ip_address

from net.call import Call, on_abort
from net.connection import Address

#: Concurrent look-ups of hosts that callers named. gevent looks names up in ten threads, and hosts
#: whose name servers do not answer must not block those of the providers.
MAX_LOOKUPS = 4
#: Further look-ups for the results that providers link to: they were paid for, and must be fetched
#: whatever hosts callers name.
MAX_RESULT_LOOKUPS = 3


class _Lookup:
    """One name to look up, for one call."""

    def __init__(self, call: Call, host: str, port: int) -> None:
        self.call, self.host, self.port = call, host, port
        self.addresses: list[Address] = []
        self.done = threading.Event()

    def run(self) -> None:
        with suppress(OSError, UnicodeError):
            self.addresses.extend(socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM))


class Lookups:
    """A queue of look-ups, with limits to how many run: in all, and for one source."""

    def __init__(self, max_running: int, max_of_a_source: int) -> None:
        self._max_running, self._max_of_a_source = max_running, max_of_a_source
        self._lock = threading.Lock()
        #: The look-ups that wait, by source. The first source is the next one.
        self._waiting: dict[str, deque[_Lookup]] = {}
        self._running: Counter[str] = Counter()

    def resolve(self, call: Call, host: str, port: int) -> Sequence[Address]:
        """Return the addresses of `host`; an empty list if it has none.

        Waits until it is the turn of the call's source. Raises the reason if `call` is aborted, and
        `ProviderTimeout` past its deadline. A look-up that has begun goes on in its thread then.
        """
        lookup = _Lookup(call, host, port)
        if _is_literal(host):
            call.check()
            lookup.run()
            return lookup.addresses
        with on_abort(call, lookup.done.set):
            self._enqueue(lookup)
            try:
                lookup.done.wait(call.seconds_left)
            finally:
                self._forget(lookup)
        call.check()
        return lookup.addresses

    def _enqueue(self, lookup: _Lookup) -> None:
        with self._lock:
            self._waiting.setdefault(lookup.call.source, deque()).append(lookup)
            self._start_next()

    def _forget(self, lookup: _Lookup) -> None:
        with self._lock:
            queue = self._waiting.get(lookup.call.source, deque())
            with suppress(ValueError):
                queue.remove(lookup)
            if not queue:
                self._waiting.pop(lookup.call.source, None)

    def _start_next(self) -> None:
        """Start as many look-ups as there is room for. The lock is held."""
        while self._running.total() < self._max_running:
            free = (name for name in self._waiting if self._running[name] < self._max_of_a_source)
            source = next(free, None)
            if source is None:
                return
            queue = self._waiting.pop(source)
            lookup = queue.popleft()
            if queue:
                self._waiting[source] = queue  # Behind the others.
            if lookup.call.is_over:
                continue
            self._running[source] += 1
            threading.Thread(
                target=self._run, args=(lookup,), name=f"look up {lookup.host}", daemon=True
            ).start()

    def _run(self, lookup: _Lookup) -> None:
        lookup.run()
        lookup.done.set()
        with self._lock:
            self._running[lookup.call.source] -= 1
            self._running += Counter()  # Drops what is 0.
            self._start_next()


def _is_literal(host: str) -> bool:
    with suppress(ValueError):
        ip_address(host)
        return True
    return False


_of_callers = Lookups(MAX_LOOKUPS, max_of_a_source=1)
_of_results = Lookups(MAX_RESULT_LOOKUPS, max_of_a_source=MAX_RESULT_LOOKUPS)


def resolve(call: Call, host: str, port: int, of_result: bool = False) -> Sequence[Address]:
    """Return the addresses of `host` as `Lookups.resolve` does.

    `of_result`: a provider named the host, for a result that was paid for.
    """
    lookups = _of_results if of_result else _of_callers
    return lookups.resolve(call, host, port)
