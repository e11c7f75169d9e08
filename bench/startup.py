"""Measure the start-up of commands and imports: `python -m bench.startup`.

CPU time is user and system time of a whole process. The cases take turns, so that a busy machine
slows them alike, and the best round of each counts. `--json` prints one JSON document.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from tests.stack import ROOT, clean_environment

#: The imports that `keys list` cannot do without; all cases are compared with them.
REFERENCE = "import sqlalchemy, click"

#: Python code by the name of its case. The first one is the reference.
IMPORTS = {
    "import sqlalchemy, click": REFERENCE,
    "import sqlmodel": "import sqlmodel",
    "import config.settings": "import config.settings",
    "import database": "import database",
    "import the catalogue": "import config.catalog.load",
    "import app": "import app",
}
#: Arguments of `likedo`.
COMMANDS = (
    ("--version",),
    ("--help",),
    ("keys", "--help"),
    ("keys", "list"),
    ("accounts", "list"),
    ("credits", "show", "--account", "bench"),
    ("jobs", "list"),
    ("models", "list"),
)


@dataclass(frozen=True)
class Case:
    """A command to measure."""

    name: str
    command: list[str]


@dataclass(frozen=True)
class Cost:
    """The cost of a case."""

    name: str
    #: User and system seconds of the best round, and their ratio to the reference's.
    cpu_seconds: float
    ratio: float


def cases() -> list[Case]:
    python = [sys.executable, "-c"]
    imports = [Case(name, [*python, code]) for name, code in IMPORTS.items()]
    likedo = [sys.executable, "-m", "cli"]
    return imports + [Case(f"likedo {' '.join(words)}", [*likedo, *words]) for words in COMMANDS]


def measure(measured: Sequence[Case], rounds: int, env: Mapping[str, str]) -> list[Cost]:
    """Run every case once per round, in turns; return the lowest CPU time of each."""
    best = {case.name: float("inf") for case in measured}
    for _ in range(rounds):
        for case in measured:
            best[case.name] = min(best[case.name], cpu_seconds(case.command, env))
    reference = best[measured[0].name]
    return [Cost(name, seconds, seconds / reference) for name, seconds in best.items()]


def cpu_seconds(command: Sequence[str], env: Mapping[str, str]) -> float:
    """Run `command` and return the CPU time of its process."""
    child = subprocess.Popen(command, env=env, cwd=env["LIKEDO_VAR"], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"bench: {command} failed with status {child.returncode}")
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()

    with tempfile.TemporaryDirectory(prefix="likedo-bench-") as folder:
        env = clean_environment() | {"LIKEDO_VAR": folder, "PYTHONPATH": str(ROOT)}
        for words in ("db upgrade", "accounts create bench", "keys create --account bench"):
            cpu_seconds([sys.executable, "-m", "cli", *words.split()], env)
        costs = measure(cases(), options.rounds, env)
    if options.json:
        print(json.dumps([asdict(cost) for cost in costs], indent=2))
        return
    print(f"CPU of a whole process, the best of {options.rounds} rounds:    seconds    ratio")
    for cost in costs:
        print(f"  {cost.name:<44}{cost.cpu_seconds:8.2f} {cost.ratio:8.2f}")


if __name__ == "__main__":
    main()
