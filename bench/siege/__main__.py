"""Ten well-behaved accounts beside two hostile ones: `make siege`, `python -m bench.siege`.

Two web processes and a worker serve ten accounts that send chats and streams, first in quiet, then
while `bench.siege.attacks` runs at the lowest priority. Exits with 1 if the p99 of the ten grew
more than `MAX_SLOWDOWN` times, if one of their calls failed, if memory stayed more than a fifth
above what it was, or if a process was killed or lost its lease.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.siege.callers import Callers, Phase
from tests.stack import ROOT, Stack, clean_environment, stack
from tests.upstream import Upstream

ACCOUNTS = 10
#: Seconds between two calls of one account, and until its provider answers.
PAUSE_SECONDS, DELAY_SECONDS = 0.2, 0.2
MAX_SLOWDOWN = 5
MAX_GROWTH = 1.2
#: Memory may take so long to come down.
RECOVERY_SECONDS = 60


def besiege(quiet_seconds: float, hostile_seconds: float, rate: float) -> dict[str, Any]:
    """Run both phases; return what was measured, and under `problems` what was not as it should."""
    with _installation() as made:
        url = f"http://127.0.0.1:{made.ports[0]}"
        keys = [made.account(credits=1_000_000).key for _ in range(ACCOUNTS)]
        hostile = [made.account(credits=1000, plan="free").key for _ in range(2)]
        callers = Callers(url, keys, PAUSE_SECONDS)
        callers.start()
        try:
            time.sleep(quiet_seconds / 4)  # The first calls load what later ones need not.
            quiet = callers.phase = Phase()
            time.sleep(quiet_seconds)
            before = _state(made)
            besieged = callers.phase = Phase()
            attacks = _attack(url, hostile, hostile_seconds, rate)
            after = _recovered(made, before)
        finally:
            callers.stop()
        held = [line for process in (*made.webs, *made.workers) for line in _holds(process.log)]
    return {
        "attacks": attacks,
        "quiet": _summary(quiet),
        "besieged": _summary(besieged),
        "slowdown_of_p99": round(besieged.at(0.99) / quiet.at(0.99), 2),
        "memory_mib": {"before": before["memory_of_each"], "after": after["memory_of_each"]},
        "holds": held,
        "problems": list(_problems(quiet, besieged, before, after)),
    }


@contextmanager
def _installation() -> Iterator[Stack]:
    with Upstream() as upstream:
        upstream.script(default={"match": "/chat/completions", "delay": DELAY_SECONDS})
        settings = {
            "openai_base_url": f"{upstream.url}/openai",
            "openai_api_key": "sk-siege",
            "gemini_base_url": f"{upstream.url}/gemini",
            "gemini_api_key": "sk-siege",
        }
        with stack(**settings) as made:
            made.web(web_concurrency=2)
            made.worker()
            yield made


def _attack(url: str, keys: list[str], seconds: float, rate: float) -> dict[str, Any]:
    attackers = [sys.executable, "-m", "bench.siege.attacks", url, "--keys", ",".join(keys)]
    done = subprocess.run(
        ["nice", "-n", "19", *attackers, "--seconds", str(seconds), "--rate", str(rate)],
        cwd=ROOT,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=seconds + 120,
    )
    return dict(json.loads(done.stdout))


def _state(made: Stack) -> dict[str, Any]:
    """Return the processes that serve, their memory, and the leases there are."""
    pids = [pid for process in (*made.webs, *made.workers) for pid in _family(process.pid)]
    each = [round(_memory_mib(pid)) for pid in pids]
    return {
        "pids": pids,
        "memory_mib": sum(each),
        "memory_of_each": each,
        "leases": sorted(made.live_workers()),
    }


def _recovered(made: Stack, before: dict[str, Any]) -> dict[str, Any]:
    """Return the state once memory is down again, or the time for that is over."""
    ends = time.monotonic() + RECOVERY_SECONDS
    while True:
        state = _state(made)
        enough = state["memory_mib"] <= MAX_GROWTH * before["memory_mib"]
        if enough or time.monotonic() > ends:
            return state
        time.sleep(1)


def _family(pid: int) -> list[int]:
    """Return a process and its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *map(int, children)]


def _memory_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:"))


def _holds(log: Path) -> list[str]:
    return [line for line in log.read_text(errors="replace").splitlines() if "loop.held" in line]


def _summary(phase: Phase) -> dict[str, Any]:
    quantiles = {f"p{share:.0%}"[:-1]: round(phase.at(share), 3) for share in (0.5, 0.9, 0.99)}
    return {"calls": len(phase.seconds), **quantiles, "failures": phase.failures[:10]}


def _problems(
    quiet: Phase, besieged: Phase, before: dict[str, Any], after: dict[str, Any]
) -> Iterator[str]:
    if besieged.at(0.99) > MAX_SLOWDOWN * quiet.at(0.99):
        yield "the p99 grew too much"
    for phase in (quiet, besieged):
        if phase.failures:
            yield f"{len(phase.failures)} calls of well-behaved accounts failed"
    if after["memory_mib"] > MAX_GROWTH * before["memory_mib"]:
        yield "the memory did not come down again"
    if after["pids"] != before["pids"]:
        yield "a process was killed"
    if after["leases"] != before["leases"]:
        yield "a lease was lost"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quiet-seconds", type=float, default=20)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rate", type=float, default=50, help="hostile requests a second")
    options = parser.parse_args()
    result = besiege(options.quiet_seconds, options.seconds, options.rate)
    print(json.dumps(result, indent=2))
    sys.exit(1 if result["problems"] else 0)


if __name__ == "__main__":
    main()
