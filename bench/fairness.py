"""Measure fairness between accounts: `python -m bench.fairness`.

Ten callers make chats before one account queues hundreds of image jobs, and again while those are
queued. The waits are compared.
"""

import argparse
import statistics
import time
from concurrent.futures import ThreadPoolExecutor

from bench.request import BODY
from config.providers import BASE_URLS, key_variable
from tests.stack import Account, fetch, stack
from tests.upstream import Upstream

CALLERS, CALLS = 10, 20
CHAT_SECONDS, IMAGE_SECONDS = 0.1, 1.0
IMAGE = {"model": "gpt-image-2", "prompt": "A cat.", "background": True}


def waits(url: str, accounts: list[Account]) -> list[float]:
    """Return the seconds that each chat of each caller took, in ascending order."""
    with ThreadPoolExecutor(len(accounts)) as threads:
        taken = threads.map(lambda account: [_chat(url, account) for _ in range(CALLS)], accounts)
        return sorted(seconds for each in taken for seconds in each)


def _chat(url: str, account: Account) -> float:
    begun = time.monotonic()
    status, _, content = fetch(f"{url}/v1/chat/completions", BODY, key=account.key)
    assert status == 200, content
    return time.monotonic() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=500)
    jobs = parser.parse_args().jobs
    with Upstream() as upstream:
        settings = {f"{name}_base_url": f"{upstream.url}/{name}" for name in BASE_URLS}
        settings |= {key_variable(name).lower(): "sk-bench" for name in BASE_URLS}
        with stack(**settings) as made:
            upstream.script(default={"delay": CHAT_SECONDS, "match": "/chat/"})
            url = made.web()
            made.worker()
            others = [made.account() for _ in range(CALLERS)]
            waits(url, others)
            idle = waits(url, others)
            busy_one = made.account(credits=10_000)
            upstream.script(default={"delay": IMAGE_SECONDS})
            for _ in range(jobs):
                fetch(f"{url}/v1/images/generations", IMAGE, key=busy_one.key)
            upstream.script(default={"delay": CHAT_SECONDS})
            loaded = waits(url, others)
            left = made.unfinished()
    print(f"{CALLERS} callers' chats of {CHAT_SECONDS:g} s, s:   p50     p95")
    for name, seconds in (("idle", idle), (f"beside {jobs} image jobs", loaded)):
        p50, p95 = statistics.median(seconds), seconds[int(len(seconds) * 0.95)]
        print(f"  {name:28} {p50:.3f}   {p95:.3f}")
    print(f"  ratio of p50: {statistics.median(loaded) / statistics.median(idle):.2f}")
    print(f"  unfinished image jobs at the end: {left}")


if __name__ == "__main__":
    main()
