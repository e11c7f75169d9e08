"""Many callers at once, cheaply: `python -m bench.load URL KEY --callers 128 --calls 5`.

Prints one JSON document: seconds in all, how often each status came, and each call's latency.
"""

# ruff: noqa: E402  # gevent patches before anything is imported that it patches
from gevent import monkey

monkey.patch_all()

import argparse
import http.client
import json
import sys
import time
from collections import Counter
from urllib.parse import urlsplit

import gevent
from gevent.event import Event

BODY = json.dumps(
    {
        "model": "gpt-4",
        "messages": [{"role": "user", "content": "What is a queue?"}],
        "max_tokens": 100,
    }
).encode()


class Caller:
    """One caller on one connection that is kept alive."""

    def __init__(self, url: str, key: str, body: bytes) -> None:
        parts = urlsplit(url)
        self.connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=120)
        self.path = parts.path
        self.body = body
        self.headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        self.statuses: list[int] = []
        self.latencies: list[float] = []

    def connect(self) -> None:
        self.connection.connect()

    def run(self, start: Event, calls: int) -> None:
        start.wait()
        for _ in range(calls):
            begun = time.perf_counter()
            self.statuses.append(self.call())
            self.latencies.append(time.perf_counter() - begun)

    def call(self) -> int:
        try:
            self.connection.request("POST", self.path, self.body, self.headers)
            reply = self.connection.getresponse()
            reply.read()
            return reply.status
        except (OSError, http.client.HTTPException):
            self.connection.close()
            return 0


def load(url: str, key: str, callers: int, calls: int, body: bytes = BODY) -> dict[str, object]:
    """Let `callers` make `calls` calls each, all beginning at once. Status 0 is a broken call."""
    crowd = [Caller(url, key, body) for _ in range(callers)]
    for caller in crowd:
        caller.connect()
    start = Event()
    greenlets = [gevent.spawn(caller.run, start, calls) for caller in crowd]
    begun = time.perf_counter()
    start.set()
    gevent.joinall(greenlets, raise_error=True)
    return {
        "seconds": time.perf_counter() - begun,
        "statuses": Counter(status for caller in crowd for status in caller.statuses),
        "latencies": sorted(latency for caller in crowd for latency in caller.latencies),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("key")
    parser.add_argument("--callers", type=int, default=16)
    parser.add_argument("--calls", type=int, default=10)
    asked = parser.parse_args()
    json.dump(load(asked.url, asked.key, asked.callers, asked.calls), sys.stdout)


if __name__ == "__main__":
    main()
