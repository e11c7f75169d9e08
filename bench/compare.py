"""Compare checkouts of this project: `python -m bench.compare ../before . --rounds 8`.

All run side by side, each with its own database and Redis, and take turns under the same load:
plain chats one after another, then from many callers at once. Prints the medians of all rounds, and
the medians of each round's ratio to the first checkout. All must have the same schema.
"""

import argparse
import statistics
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench.__main__ import Load, Run, measure, unlimited_catalog
from tests.stack import Stack, stack
from tests.upstream import Upstream

DELAY_SECONDS = 0.01
LOADS = (Load(callers=1, calls=100), Load(callers=16, calls=15), Load(callers=128, calls=4))
FIGURES: dict[str, Callable[[Run], float]] = {
    "p50, ms": lambda run: run.at(0.5),
    "p95, ms": lambda run: run.at(0.95),
    "CPU web, ms": lambda run: run.cpu["web"],
    "CPU worker, ms": lambda run: run.cpu["worker"],
    "CPU both, ms": lambda run: run.total_cpu,
}


@dataclass
class Checkout:
    """A running checkout."""

    url: str
    key: str
    pids: dict[str, int]

    @classmethod
    def start(cls, made: Stack) -> "Checkout":
        web, worker = made.web(), made.worker()
        key = made.account(credits=10_000_000).key
        pids = {"web": made.webs[0].pid, "worker": worker.pid}
        return cls(f"{web}/v1/chat/completions", key, pids)

    def run(self, load: Load) -> Run:
        return measure(self.url, self.key, load, self.pids)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", type=Path, nargs="+", help="one checkout each")
    parser.add_argument("--rounds", type=int, default=8)
    options = parser.parse_args()

    with Upstream() as upstream, ExitStack() as stacks:
        upstream.script(default={"delay": DELAY_SECONDS})
        settings = {
            "openai_base_url": f"{upstream.url}/openai",
            "openai_api_key": "sk-bench",
            "catalog": unlimited_catalog(),
        }
        checkouts = [
            Checkout.start(stacks.enter_context(stack(**settings, code=folder.resolve())))
            for folder in options.folders
        ]
        for load in LOADS:
            rounds = [[each.run(load) for each in checkouts] for _ in range(options.rounds)]
            print(f"{load.callers} callers, {load.calls} calls each, {options.rounds} rounds")
            _print(options.folders, rounds)


def _print(folders: list[Path], rounds: list[list[Run]]) -> None:
    print(" " * 16 + "".join(f"{folder.resolve().name:>26}" for folder in folders))
    for name, figure in FIGURES.items():
        line = f"  {name:<14}"
        for number in range(len(folders)):
            values = [figure(runs[number]) for runs in rounds]
            ratios = sorted(figure(runs[number]) / figure(runs[0]) for runs in rounds)
            line += f"{statistics.median(values):9.2f}{statistics.median(ratios):6.2f}"
            line += f" {ratios[0]:.2f}–{ratios[-1]:.2f}"
        print(line, flush=True)


if __name__ == "__main__":
    main()
