"""Many at once: everybody is answered, and everybody pays once."""

import json
import subprocess
import sys

from tests.stack import ROOT, Stack
from tests.upstream import Upstream

CALLERS, CALLS = 128, 5


def test_128_callers_at_once_are_all_answered_and_all_pay(
    fresh_stack: Stack, upstream: Upstream
) -> None:
    # How quickly is for `make bench` to say: a time in a test would be the machine's.
    upstream.script(default={"delay": 1.0})
    web = fresh_stack.web()
    fresh_stack.worker()
    account = fresh_stack.account(credits=10_000)
    command = [sys.executable, "-m", "bench.load", f"{web}/v1/chat/completions", account.key]
    command += ["--callers", str(CALLERS), "--calls", str(CALLS)]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)

    assert json.loads(done.stdout)["statuses"] == {"200": CALLERS * CALLS}
    assert account.standing() == (10_000 - CALLERS * CALLS, 0)
    assert len(upstream.calls()) == CALLERS * CALLS
    assert fresh_stack.unfinished() == 0
