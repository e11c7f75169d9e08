"""Many at once: the queue adds little to what the upstream itself takes."""

import json
import subprocess
import sys
from typing import Any

from tests.stack import ROOT, Stack
from tests.upstream import Upstream

CALLERS, CALLS = 128, 5


def load(url: str, key: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.load", url, key]
    command += ["--callers", str(CALLERS), "--calls", str(CALLS)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def test_128_callers_get_nearly_all_that_the_upstream_gives(
    fresh_stack: Stack, upstream: Upstream
) -> None:
    upstream.script(default={"delay": 1.0})
    web = fresh_stack.web()
    fresh_stack.worker()
    account = fresh_stack.account(credits=10_000)
    load(f"{web}/v1/chat/completions", account.key)  # Everything is loaded and connected now.

    direct = load(f"{upstream.url}/openai/chat/completions", "direct")
    ours = load(f"{web}/v1/chat/completions", account.key)

    assert ours["statuses"] == {"200": CALLERS * CALLS}
    # Both were measured just now, one after the other: 0.9 of what the same callers got directly.
    assert direct["seconds"] / ours["seconds"] >= 0.9
    assert account.standing() == (10_000 - 2 * CALLERS * CALLS, 0)
