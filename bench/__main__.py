"""`make bench`: the overhead of a chat, plain and streamed, against a theoretical minimum.

The minimum is `bench.floor`, a bare proxy. Figures depend on the machine and vary between runs:
compare the ratios, not the milliseconds. The upstream is a server that answers after a fixed delay;
`direct` are the same callers without anything in between.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
from rq import Queue, SimpleWorker
from rq.serializers import JSONSerializer

from bench import processes
from bench.request import BODY
from tests.events import words
from tests.servers.ports import free_port
from tests.stack import ROOT, Process, Stack, fetch, stack, wait_until
from tests.upstream import Upstream

DELAY_SECONDS = 0.1
CHUNKS = 100
CROWD, CROWD_CALLS, CROWD_DELAY_SECONDS = 128, 10, 1.0


@dataclass
class Run:
    """The result of one load on one URL. Latencies are in seconds, in ascending order."""

    seconds: float
    latencies: list[float]
    first_bytes: list[float]
    #: CPU milliseconds per call, by process.
    cpu: dict[str, float]

    def at(self, share: float) -> float:
        """Return the quantile `share` of the latencies, in milliseconds."""
        return _at(self.latencies, share)

    def first_at(self, share: float) -> float:
        """Return the quantile `share` of the times to the first byte, in milliseconds."""
        return _at(self.first_bytes, share)

    @property
    def total_cpu(self) -> float:
        return sum(self.cpu.values())


def _at(ordered: list[float], share: float) -> float:
    return ordered[int(len(ordered) * share)] * 1000


@dataclass
class Load:
    """The number of callers, and of calls by each of them."""

    callers: int
    calls: int
    streamed: bool = False


def measure(url: str, key: str, load: Load, pids: dict[str, int]) -> Run:
    """Put `load` on `url`, after a smaller one to warm it up; measure CPU time of `pids`."""
    _load(url, key, Load(load.callers, 2, load.streamed))
    before = {name: processes.cpu_seconds(pid) for name, pid in pids.items()}
    result = _load(url, key, load)
    count = load.callers * load.calls
    used = {
        name: (processes.cpu_seconds(pid) - before[name]) * 1000 / count
        for name, pid in pids.items()
    }
    if set(result["statuses"]) != {"200"}:
        raise SystemExit(f"bench: not every call was answered: {result['statuses']}")
    return Run(result["seconds"], result["latencies"], result["first_bytes"], used)


def _load(url: str, key: str, load: Load) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.load", url, key]
    command += ["--callers", str(load.callers), "--calls", str(load.calls)]
    command += ["--stream"] if load.streamed else []
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def floor(upstream: Upstream, made: Stack) -> tuple[str, Process]:
    """Start the proxy of `bench.floor`; return its URL and process."""
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "-k", "gevent", "-w", "1"]
    command += ["--worker-connections", "10000", "-b", f"127.0.0.1:{port}", "bench.floor:app"]
    env = made.env(openai_base_url=f"{upstream.url}/openai") | {"PYTHONPATH": str(ROOT)}
    process = Process("floor", command, env, made.folder)
    address = f"http://127.0.0.1:{port}"
    path = f"{address}/v1/chat/completions"
    wait_until(lambda: fetch(path, BODY)[0] == 200, "the floor answers", process)
    return path, process


def simple_worker(made: Stack, jobs: int = 500) -> dict[str, float]:
    """Return the CPU milliseconds of one RQ job that does nothing, by what they are spent on."""
    connection = redis.Redis.from_url(made.valkey.url)
    queue = Queue("noop", connection=connection, serializer=JSONSerializer)
    valkey = made.valkey.process.pid
    before = processes.cpu_seconds(valkey)
    enqueue = _cpu_of(lambda: [queue.enqueue("bench.noop.run", "id") for _ in range(jobs)])
    worker = SimpleWorker([queue], connection=connection, serializer=JSONSerializer)
    worker.log.setLevel("ERROR")
    run = _cpu_of(lambda: worker.work(burst=True, logging_level="ERROR"))
    used = {"enqueue": enqueue, "work": run, "redis": processes.cpu_seconds(valkey) - before}
    connection.close()
    return {name: seconds * 1000 / jobs for name, seconds in used.items()}


def _cpu_of(function: Callable[[], object]) -> float:
    begun = time.process_time()
    function()
    return time.process_time() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--callers", type=int, default=16)
    parser.add_argument("--calls", type=int, default=60, help="per caller")
    parser.add_argument("--streams", type=int, default=20, help="per caller, of each kind")
    parser.add_argument("--database", help="the URL of an empty database (default: SQLite)")
    options = parser.parse_args()

    with Upstream() as upstream:
        upstream.script(default={"delay": DELAY_SECONDS})
        provider = {"openai_base_url": f"{upstream.url}/openai", "openai_api_key": "sk-bench"}
        settings = {"database_url": options.database} if options.database else {}
        with stack(**provider, **settings, catalog=unlimited_catalog()) as made:
            _report(options, upstream, made)


def unlimited_catalog() -> Path:
    """Write a catalogue without tight rate limits; return its path."""
    text = (ROOT / "config" / "catalog.toml").read_text()
    path = Path(tempfile.mkdtemp(prefix="likedo-bench-")) / "catalog.toml"
    path.write_text(re.sub(r"requests_per_hour = \d+", "requests_per_hour = 1000000", text))
    return path


def _report(options: argparse.Namespace, upstream: Upstream, made: Stack) -> None:
    web, worker = made.web(), made.worker()
    key = made.account(credits=10_000_000).key
    floor_url, floor_process = floor(upstream, made)
    pids = {"web": made.webs[0].pid, "worker": worker.pid, "redis": made.valkey.process.pid}
    addresses = {
        "direct": (f"{upstream.url}/openai/chat/completions", {}),
        "the floor": (floor_url, {"proxy": floor_process.pid}),
        "ours": (f"{web}/v1/chat/completions", pids),
    }

    def runs(load: Load) -> list[Run]:
        return [measure(url, key, load, pids) for url, pids in addresses.values()]

    try:
        direct, minimum, ours = runs(Load(options.callers, options.calls))
        _print(options, made, direct, minimum, ours, simple_worker(made))
        for name, gap in (("paced, a chunk each 10 ms", 0.01), ("in a burst", 0.0)):
            upstream.script(default=words(CHUNKS, gap=gap))
            _print_streams(name, *runs(Load(options.callers, options.streams, streamed=True)))
    finally:
        floor_process.stop()
    _print_crowd(upstream, made, f"{web}/v1/chat/completions", key)


def _print_streams(name: str, direct: Run, minimum: Run, ours: Run) -> None:
    """Print the CPU time of a stream of 100 chunks, and the delay of its first byte."""
    print(f"Streams of {CHUNKS} chunks, {name}. CPU, ms a stream:")
    for process, value in ours.cpu.items():
        print(f"  {process:<24}{value:8.2f}")
    ratio = ours.total_cpu / minimum.total_cpu
    print(f"  {'all of it':<24}{ours.total_cpu:8.2f}")
    print(f"  {'the floor':<24}{minimum.total_cpu:8.2f}   ratio {ratio:.2f}")
    print("First byte later than direct, ms: p50      p95")
    for label, run in (("ours", ours), ("the floor", minimum)):
        added = [run.first_at(share) - direct.first_at(share) for share in (0.5, 0.95)]
        print(f"  {label:<28}{added[0]:8.1f} {added[1]:8.1f}")


def _print_crowd(upstream: Upstream, made: Stack, url: str, key: str) -> None:
    """Print which share of the upstream's throughput many callers reach through us."""
    upstream.script(default={"delay": CROWD_DELAY_SECONDS})
    _load(url, key, Load(CROWD, 1))
    direct = _load(f"{upstream.url}/openai/chat/completions", "direct", Load(CROWD, CROWD_CALLS))
    ours = _load(url, key, Load(CROWD, CROWD_CALLS))
    share = direct["seconds"] / ours["seconds"]
    print(
        f"{CROWD} callers, {CROWD_CALLS} calls each, upstream {CROWD_DELAY_SECONDS} s: "
        f"{direct['seconds']:.2f} s direct, {ours['seconds']:.2f} s through us, share {share:.2f}"
    )


def _print(
    options: argparse.Namespace,
    made: Stack,
    direct: Run,
    minimum: Run,
    ours: Run,
    noop: dict[str, float],
) -> None:
    count = options.callers * options.calls
    kind = made.database_url.partition(":")[0]
    print(
        f"Plain chat, {options.callers} callers, {count} calls, upstream {DELAY_SECONDS} s, {kind}"
    )
    print("CPU, ms a call:")
    for name, value in ours.cpu.items():
        print(f"  {name:<24}{value:8.2f}")
    print(f"  {'all of it':<24}{ours.total_cpu:8.2f}")
    ratio = ours.total_cpu / minimum.total_cpu
    print(f"  {'the floor':<24}{minimum.total_cpu:8.2f}   ratio {ratio:.2f}")
    rq = sum(noop.values())
    parts = ", ".join(f"{name} {value:.2f}" for name, value in noop.items())
    print(f"  {'RQ SimpleWorker, no-op':<24}{rq:8.2f}   ratio {ours.total_cpu / rq:.2f} ({parts})")
    print("Latency added over direct, ms:    p50      p95")
    for name, run in (("ours", ours), ("the floor", minimum)):
        added = [run.at(share) - direct.at(share) for share in (0.5, 0.95)]
        print(f"  {name:<28}{added[0]:8.1f} {added[1]:8.1f}")
    memory = {"web": made.webs[0].pid, "worker": made.workers[0].pid}
    print(
        "Memory, MiB: "
        + ", ".join(f"{n} {processes.resident_mib(p):.0f}" for n, p in memory.items())
    )


if __name__ == "__main__":
    main()
