"""`make structure`: how many files a call goes through, and how large files and functions are.

Calls: a web process and a worker run under `bench.tracing`, with the sandbox as provider. Each call
is made once to warm up and then several times. A stack of functions that is also seen while another
caller waits for a slow answer is background, such as leases and maintenance. Background stacks, and
those not seen in every repetition, are left out; so a function that a call reaches only by a
background stack is missing. Counted are

- files: the product's files with at least one function that runs;
- switches: calls from a function of one file to a function of another, each time. Returns, resumed
  generators, and hand-overs to another greenlet, thread or process do not count;
- pairs: the same, but each pair of functions once.

A batch line is traced from the request that creates its batch, of this one line, to the end of the
batch.

Code: the product's files that `git ls-files` lists. A function's length is its lines from `def` to
its end, inner functions included. A circle is a set of files that import each other, even if only
inside functions.
"""

import argparse
import ast
import json
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any

from bench.tracing import NO_CALLER, NO_PRODUCT, ROOT, STORED
from tests.batches import ENDPOINT, Batches, chats, file_of
from tests.stack import Account, Stack, fetch, stack, wait_until

CHAT = {"model": "gpt-4", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 20}
SLOW = CHAT | {"model": "sandbox/slow"}
IMAGE = {"model": "gpt-image-2", "prompt": "A cat."}

#: Less than the 10 seconds that the sandbox's slow model takes.
BACKGROUND_SECONDS = 8
#: After this the clean-up of a call is over, such as its removal from the queue's lists.
TIDY_SECONDS = 0.5
REPETITIONS = 3
LARGEST = 10
LONG_LINES = 50


# ---- Calls ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Event:
    """One call of a function of the product. Names are `file:function`."""

    time: float
    #: The process, and the hash of its stack of functions.
    stack: tuple[str, str]
    called: str
    caller: str
    #: The nearest caller outside of `STORED`.
    caller_outside: str


def read_events(folder: Path) -> list[Event]:
    """Return the events that all processes recorded, earliest first."""
    events = []
    for path in folder.glob("*.calls"):
        for line in path.read_text().splitlines():
            moment, stack, *names = line.split(" ")
            events.append(Event(float(moment), (path.stem, stack), *names))
    return sorted(events, key=lambda event: event.time)


def between(events: list[Event], window: tuple[float, float]) -> list[Event]:
    return [event for event in events if window[0] <= event.time < window[1]]


def count(repetitions: list[list[Event]], background: set[tuple[str, str]]) -> dict[str, Any]:
    """Return the figures of one kind of call from the events of its repetitions."""
    usual = set.intersection(*({event.stack for event in events} for events in repetitions))
    calls = [
        [event for event in events if event.stack in usual - background] for events in repetitions
    ]
    outside = [
        [event for event in events if not event.called.startswith(STORED)] for events in calls
    ]
    return {
        "all": _count(calls, lambda event: event.caller),
        "without_stored": _count(outside, lambda event: event.caller_outside),
    }


def _count(repetitions: list[list[Event]], caller_of: Callable[[Event], str]) -> dict[str, int]:
    switches = [
        [
            (caller_of(event), event.called)
            for event in events
            if caller_of(event) != NO_CALLER and _file(caller_of(event)) != _file(event.called)
        ]
        for events in repetitions
    ]
    return {
        "files": len({_file(event.called) for event in repetitions[0]}),
        "switches": int(statistics.median(map(len, switches))),
        "pairs": int(statistics.median(len(set(each)) for each in switches)),
    }


def _file(name: str) -> str:
    return name.partition(":")[0]


def trace() -> dict[str, Any]:
    """Make each kind of call in real processes and return its figures."""
    with ExitStack() as opened:
        folder = Path(opened.enter_context(TemporaryDirectory(prefix="likedo-calls-")))
        python = (sys.executable, "-m", "bench.tracing", str(folder))
        made = opened.enter_context(stack(python=python, sandbox=1))
        web = made.web()
        made.worker()
        account = made.account(credits=100_000)
        kinds = _kinds(made, web, account)
        windows = {name: [_window(call) for _ in range(REPETITIONS + 1)] for name, call in kinds}
        background = _background(made, web, account)
        events = read_events(folder)
    known = {event.stack for event in between(events, background)}
    return {
        name: count([between(events, each) for each in measured[1:]], known)
        for name, measured in windows.items()
    }


def _window(call: Callable[[], object]) -> tuple[float, float]:
    begun = time.monotonic()
    call()
    time.sleep(TIDY_SECONDS)
    return begun, time.monotonic()


def _kinds(made: Stack, web: str, account: Account) -> list[tuple[str, Callable[[], object]]]:
    def post(path: str, body: Any) -> dict[str, str]:
        status, _, content = fetch(f"{web}/v1/{path}", body, key=account.key)
        assert status == 200, content
        return {} if content.startswith(b"data:") else dict(json.loads(content))

    uploaded = Batches(web, account).sdk.files.create(
        file=("in.jsonl", file_of(chats(1))), purpose="batch"
    )
    line = {"input_file_id": uploaded.id, "endpoint": ENDPOINT, "completion_window": "24h"}

    def run_batch() -> None:
        batch = post("batches", line)["id"]
        sql = "SELECT status FROM batches WHERE id = :id"
        wait_until(lambda: made.query(sql, id=batch)[0][0] == "completed", "the batch is completed")

    return [
        ("plain chat", lambda: post("chat/completions", CHAT)),
        ("stream", lambda: post("chat/completions", CHAT | {"stream": True})),
        ("image", lambda: post("images/generations", IMAGE)),
        ("batch line", run_batch),
    ]


def _background(made: Stack, web: str, account: Account) -> tuple[float, float]:
    """Return a period in which one caller waited for its answer and no other call was made."""
    caller = Thread(
        target=fetch, args=(f"{web}/v1/chat/completions", SLOW), kwargs={"key": account.key}
    )
    caller.start()
    running = "SELECT count(*) FROM jobs WHERE status = 'in_progress'"
    wait_until(lambda: made.query(running)[0][0] == 1, "the slow call runs")
    time.sleep(TIDY_SECONDS)
    begun = time.monotonic()
    time.sleep(BACKGROUND_SECONDS)
    window = begun, time.monotonic()
    assert made.query(running)[0][0] == 1, "The slow call has ended too early."
    caller.join()
    return window


# ---- Code ----------------------------------------------------------------------------------------


def product_files() -> list[Path]:
    """Return the product's Python files, relative to the checkout."""
    listed = subprocess.run(
        ["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    paths = map(Path, listed.stdout.split())
    return [path for path in paths if path.parts[0] not in NO_PRODUCT and (ROOT / path).exists()]


def measure(paths: Iterable[Path]) -> dict[str, Any]:
    """Return the figures of the code."""
    texts = {path: (ROOT / path).read_text(encoding="utf-8") for path in paths}
    trees = {path: ast.parse(text) for path, text in texts.items()}
    lines = {str(path): text.count("\n") for path, text in texts.items()}
    lengths = sorted(length for tree in trees.values() for length in function_lengths(tree))
    folders = Counter(str(path.parent) for path in texts)
    return {
        "files": len(texts),
        "files_per_folder": dict(folders.most_common()),
        "largest_files": dict(sorted(lines.items(), key=lambda item: -item[1])[:LARGEST]),
        "functions": len(lengths),
        "median_lines": statistics.median(lengths),
        "p90_lines": lengths[int(len(lengths) * 0.9)],
        "over_50_lines": sum(length > LONG_LINES for length in lengths),
        "import_circles": circles(trees),
    }


def function_lengths(tree: ast.AST) -> Iterator[int]:
    """Yield the length of each function, in lines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield (node.end_lineno or node.lineno) - node.lineno + 1


def circles(trees: dict[Path, ast.Module]) -> list[list[str]]:
    """Return the sets of files that import each other."""
    modules = {_module(path): path for path in trees}
    reached = _closure(
        {
            path: {modules[name] for name in _imports(path, tree, modules)}
            for path, tree in trees.items()
        }
    )
    sets = {
        frozenset(str(other) for other in reached[path] if path in reached[other])
        for path in trees
        if path in reached[path]
    }
    return sorted(sorted(circle) for circle in sets)


def _module(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(path: Path, tree: ast.Module, modules: dict[str, Path]) -> set[str]:
    """Return the product's modules that a file names in its imports."""
    imported: set[str] = set()
    package = (*path.parent.parts,)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            source = ".".join([*above, *([node.module] if node.module else [])])
            names = {f"{source}.{alias.name}" for alias in node.names}
            # A name that is no module is defined in the package itself.
            imported |= {name if name in modules else source for name in names}
    return {name for name in imported if name in modules and modules[name] != path}


def _closure(graph: dict[Path, set[Path]]) -> dict[Path, set[Path]]:
    """Return all files that each file reaches."""
    reached: dict[Path, set[Path]] = {}
    for start in graph:
        seen: set[Path] = set()
        ahead = list(graph[start])
        while ahead:
            if (path := ahead.pop()) not in seen:
                seen.add(path)
                ahead += graph[path]
        reached[start] = seen
    return reached


# ---- The table -----------------------------------------------------------------------------------


def _print(code: dict[str, Any], calls: dict[str, Any]) -> None:
    if calls:
        without = ", ".join(STORED)
        print(f"{'':<14}{'all':>8}{'':18}without {without}")
        print(f"{'Call':<14}" + f"{'files':>8}{'switches':>10}{'pairs':>8}" * 2)
    for name, figures in calls.items():
        values = [
            f"{each['files']:>8}{each['switches']:>10}{each['pairs']:>8}"
            for each in figures.values()
        ]
        print(f"{name:<14}" + "".join(values))
    print(f"\nFiles: {code['files']}, in folders:")
    for folder, number in code["files_per_folder"].items():
        print(f"  {folder:<24}{number:>5}")
    print("Largest files, lines:")
    for path, number in code["largest_files"].items():
        print(f"  {path:<32}{number:>5}")
    print(
        f"Functions: {code['functions']}, median {code['median_lines']:g} lines, "
        f"90th percentile {code['p90_lines']}, over {LONG_LINES} lines: {code['over_50_lines']}"
    )
    print(f"Import circles: {len(code['import_circles'])}")
    for circle in code["import_circles"]:
        print(f"  {', '.join(circle)}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only-code", action="store_true", help="make no calls")
    options = parser.parse_args()
    code = measure(product_files())
    calls = {} if options.only_code else trace()
    if options.json:
        json.dump({"calls": calls, "code": code}, sys.stdout, indent=2)
        print()
    else:
        _print(code, calls)


if __name__ == "__main__":
    main()
