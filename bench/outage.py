"""Simulate an outage of one provider under load: `python -m bench.outage --seconds 60`.

Callers request a model with two routes, to different providers. The first provider fails for a
while. Counted are the callers' answers, and the calls to that provider.
"""

import argparse
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

from bench.request import BODY
from tests.stack import fetch, stack
from tests.upstream import Upstream

CALLERS = 16
#: Seconds before the outage, and at most after it.
BEFORE_SECONDS = 3
AFTER_SECONDS = 60
POLL_SECONDS = 0.1
#: The first provider is in use again after this many calls.
IN_USE_CALLS = 20

BROKEN = {"status": 500, "json": {"error": {"message": "Down."}}, "delay": 0.05}
WELL = {"match": "/chat/completions", "delay": 0.05}


@dataclass
class Outage:
    """The measurements of one outage."""

    seconds: float
    statuses: Counter[int] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    #: Seconds from its start to the last call before the first pause of a second.
    stopped_after: float = 0
    #: Calls to the provider while it was down: in all, and after the first five seconds.
    calls: int = 0
    late_calls: int = 0
    #: Seconds from its end until the provider was in use again; None if it was not.
    resumed_after: float | None = None

    def at(self, share: float) -> float:
        """Return the quantile `share` of the callers' waits, in seconds."""
        return sorted(self.latencies)[int(len(self.latencies) * share)]


def simulate(seconds: float) -> Outage:
    """Let one provider fail for that many seconds under load; return the measurements."""
    with Upstream() as first, Upstream() as second:
        settings = {
            "openai_base_url": f"{first.url}/openai",
            "openai_api_key": "sk-first",
            "openrouter_base_url": f"{second.url}/openrouter",
            "openrouter_api_key": "sk-second",
        }
        with stack(**settings) as made:
            web = made.web()
            made.worker()
            keys = [made.account(credits=1_000_000).key for _ in range(CALLERS)]
            return _simulate(seconds, first, second, f"{web}/v1/chat/completions", keys)


def _simulate(
    seconds: float, first: Upstream, second: Upstream, url: str, keys: list[str]
) -> Outage:
    outage, stop = Outage(seconds), threading.Event()
    for upstream in (first, second):
        upstream.script(default=WELL)
    threads = [threading.Thread(target=_call, args=(outage, url, key, stop)) for key in keys]
    for thread in threads:
        thread.start()
    try:
        stop.wait(BEFORE_SECONDS)
        first.script(default=BROKEN)
        _watch_it_down(outage, first)
        first.script(default=WELL)
        _watch_it_back(outage, first)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    return outage


def _call(outage: Outage, url: str, key: str, stop: threading.Event) -> None:
    while not stop.is_set():
        begun = time.monotonic()
        status, _, _ = fetch(url, BODY, key=key)
        outage.latencies.append(time.monotonic() - begun)
        outage.statuses[status] += 1
        # Keeps each account within its rate limit, even in a long outage.
        stop.wait(0.2)


def _watch_it_down(outage: Outage, first: Upstream) -> None:
    begun, before = time.monotonic(), first.counts()["received"]
    last, changed, early = before, 0.0, None
    while (now := time.monotonic() - begun) < outage.seconds:
        received = first.counts()["received"]
        if received != last and not outage.stopped_after:
            last, changed = received, now
        if not outage.stopped_after and now - changed > 1:
            outage.stopped_after = changed
        if early is None and now > 5:
            early = received
        time.sleep(POLL_SECONDS)
    outage.calls = first.counts()["received"] - before
    outage.late_calls = outage.calls - ((early or before) - before)


def _watch_it_back(outage: Outage, first: Upstream) -> None:
    begun, before = time.monotonic(), first.counts()["received"]
    while (now := time.monotonic() - begun) < AFTER_SECONDS:
        if first.counts()["received"] - before >= IN_USE_CALLS:
            outage.resumed_after = now
            return
        time.sleep(POLL_SECONDS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    outage = simulate(parser.parse_args().seconds)
    print(f"One provider down for {outage.seconds:g} s, {CALLERS} callers:")
    print(f"  answers by status              {dict(outage.statuses)}")
    print(f"  waits, s                       p50 {outage.at(0.5):.2f}, p99 {outage.at(0.99):.2f}")
    print(f"  calls to it stopped after, s   {outage.stopped_after:.1f}")
    print(f"  calls to it while down         {outage.calls}, {outage.late_calls} after 5 s")
    print(f"  in use again after, s          {outage.resumed_after}")


if __name__ == "__main__":
    main()
