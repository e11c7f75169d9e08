"""Generate load from many callers: `python -m bench.load URL KEY --callers 128 --calls 5`.

Prints one JSON document: the total seconds, the count of each status, and the latency and time to
the first byte of each call. `--stream` requests streams; one without `[DONE]` counts as broken.
"""

# ruff: noqa: E402  # gevent patches modules before others import them
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

from bench.request import BODY


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
        #: Seconds until the first byte of each body.
        self.first_bytes: list[float] = []

    def connect(self) -> None:
        self.connection.connect()

    def run(self, start: Event, calls: int) -> None:
        start.wait()
        for _ in range(calls):
            begun = time.perf_counter()
            self.statuses.append(self.call(begun))
            self.latencies.append(time.perf_counter() - begun)

    def call(self, begun: float) -> int:
        try:
            self.connection.request("POST", self.path, self.body, self.headers)
            reply = self.connection.getresponse()
            last = reply.read1()
            self.first_bytes.append(time.perf_counter() - begun)
            while more := reply.read1(65536):
                last = more
            reply.close()
            # A stream without `[DONE]` has broken off.
            return reply.status if b'"stream"' not in self.body or b"[DONE]" in last else 0
        except (OSError, http.client.HTTPException):
            self.connection.close()
            return 0


def load(url: str, key: str, callers: int, calls: int, body: bytes = BODY) -> dict[str, object]:
    """Let `callers` make `calls` calls each, all starting at once. Status 0 is a broken call."""
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
        "first_bytes": sorted(latency for caller in crowd for latency in caller.first_bytes),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("key")
    parser.add_argument("--callers", type=int, default=16)
    parser.add_argument("--calls", type=int, default=10)
    parser.add_argument("--stream", action="store_true")
    options = parser.parse_args()
    body = json.dumps(json.loads(BODY) | {"stream": True}).encode() if options.stream else BODY
    result = load(options.url, options.key, options.callers, options.calls, body)
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()
