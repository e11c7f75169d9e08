"""Nobody's queue is full because of another: shares, newcomers, and who is told what."""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from access import keys
from billing import holds, queue_limits
from config.settings import settings
from models.errors import Overloaded
from tests.job_rows import job_row, make_account, quote

pytestmark = pytest.mark.usefixtures("stored")


def hold_at_once(accounts: Sequence[tuple[int, int]], body_bytes: int) -> int:
    """Hold for one call of each account and key, all at the same time; return how many fit."""
    together = threading.Barrier(len(accounts))

    def call(account: tuple[int, int]) -> bool:
        row = job_row(account[0], key_id=account[1], body_bytes=body_bytes)
        together.wait()
        try:
            holds.hold(row, quote())
        except Overloaded:
            return False
        return True

    with ThreadPoolExecutor(len(accounts)) as threads:
        return sum(threads.map(call, accounts))


def make_caller() -> tuple[int, int]:
    account_id = make_account()
    return account_id, keys.create(account_id)[0]


@pytest.mark.parametrize(("body_bytes", "limit"), [(100, 1000), (100_000, 10**6), (2**20, 2**25)])
def test_calls_at_the_same_moment_pass_neither_the_share_nor_the_limit(
    body_bytes: int, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "max_queue_bytes", limit)
    share = limit // queue_limits.SHARES // body_bytes

    mine = hold_at_once([make_caller()] * (share + 8), body_bytes)
    newcomers = 2 * limit // body_bytes - mine
    others = hold_at_once([make_caller() for _ in range(newcomers + 4)], body_bytes)

    assert (mine, others) == (share, newcomers)


def test_an_account_may_have_one_call_waiting_whatever_its_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(settings, "max_queue_bytes", 1000)
    caller = make_caller()

    assert hold_at_once([caller], 900) == 1
    assert hold_at_once([caller], 10) == 0
    assert hold_at_once([make_caller()], 1100) == 1
    assert hold_at_once([make_caller()], 10) == 0
