"""What callers get while another process keeps the database to itself."""

import os
import signal
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from database import group_commit
from tests.stack import ROOT, Account, Process, Reply, Stack, fetch, wait_until

#: More than one group of transactions.
CALLERS = 2 * group_commit.GROUP_SIZE
LATER_SECONDS = 4

ONLY_SQLITE = pytest.mark.parametrize("fresh_stack", ["sqlite"], indirect=True)


def stopped_process(stack: Stack, *how: str) -> Process:
    """Start a process and return it once it has stopped inside a transaction."""
    command = [sys.executable, "-m", "tests.database.stopper", *how]
    process = Process("stopper", command, stack.env() | {"PYTHONPATH": str(ROOT)}, stack.folder)
    stat = Path(f"/proc/{process.pid}/stat")
    wait_until(lambda: stat.read_text().rpartition(") ")[2][0] == "T", "it has stopped", process)
    return process


def ask(web: str, key: str) -> tuple[float, Reply]:
    """Ask for an account's credits; return the seconds that it took, and the reply."""
    begun = time.monotonic()
    reply = fetch(f"{web}/v1/credits", key=key, timeout=40)
    return time.monotonic() - begun, reply


def ask_in_two_waves(web: str, account: Account) -> list[tuple[float, Reply]]:
    with ThreadPoolExecutor(CALLERS) as threads:

        def wave() -> list[Future[tuple[float, Reply]]]:
            return [threads.submit(ask, web, account.key) for _ in range(CALLERS // 2)]

        first = wave()
        time.sleep(LATER_SECONDS)
        return [call.result() for call in first + wave()]


@ONLY_SQLITE
@pytest.mark.parametrize(
    "how", [["greenlets"], pytest.param([], marks=pytest.mark.slow)], ids=["turn", "lock"]
)
def test_callers_get_a_503_in_time_while_a_process_is_stopped_in_a_transaction(
    fresh_stack: Stack, how: list[str]
) -> None:
    web, account = fresh_stack.web(), fresh_stack.account(credits=5)
    assert ask(web, account.key)[1][0] == 200
    stopped = stopped_process(fresh_stack, *how)
    try:
        answers = ask_in_two_waves(web, account)

        assert {status for _, (status, _, _) in answers} == {503}
        assert all(9 < seconds < 13 for seconds, _ in answers)
    finally:
        os.kill(stopped.pid, signal.SIGCONT)

    assert stopped.wait() == 0
    seconds, (status, _, _) = ask(web, account.key)
    assert status == 200
    assert seconds < 5
    assert account.standing() == (6, 0)
