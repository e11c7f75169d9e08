"""What keeps the event loop of a process is logged; what only waits is not."""

import re
import subprocess
import sys

from tests.callers import HELLO
from tests.conftest import ONE_DATABASE
from tests.stack import ROOT, Stack, clean_environment, fetch, wait_until

HOLDS = """
import time
import gevent
from ops import watchdog

def compute(seconds):
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass

def compute_too_long():
    compute(0.1)
    gevent.sleep(0)

def compute_with_pauses():
    for _ in range(20):
        compute(0.01)
        gevent.sleep(0)

watchdog.start()
for run in (compute_with_pauses, lambda: time.sleep(0.2), compute_too_long):
    gevent.spawn(run).join()
"""


def test_only_what_computes_for_more_than_50_ms_without_a_pause_is_logged() -> None:
    said = subprocess.run(
        [sys.executable, "-c", HOLDS],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=True,
    )

    (line,) = said.stdout.splitlines()
    milliseconds = re.search(r"milliseconds=.*?(\d+)", re.sub(r"\x1b\[[0-9;]*m", "", line))
    assert "loop.held" in line and "compute_too_long" in line
    assert milliseconds and int(milliseconds[1]) >= 90


@ONE_DATABASE
def test_web_processes_and_workers_are_watched(fresh_stack: Stack) -> None:
    web = fresh_stack.web(loop_hold_milliseconds=0.1, sandbox=1)
    worker = fresh_stack.worker(loop_hold_milliseconds=0.1, sandbox=1)

    fetch(f"{web}/v1/chat/completions", HELLO, key=fresh_stack.account().key)

    for process in (fresh_stack.webs[0], worker):
        wait_until(lambda process=process: "event=loop.held" in process.said(), "it is logged")
        assert re.search(r"loop.held .*by=\"?\w+/\w+.*\.py:\d+ \w+", process.said())
