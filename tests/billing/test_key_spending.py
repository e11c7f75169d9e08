"""A key's limits are exact, whoever calls at the same time and however its calls end."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import update
from sqlmodel import col

import database
from access import keys
from access.keys import Limits
from billing import holds, key_spending, ledger, settlement
from billing.holds import Hold
from models.account import Key
from models.errors import CreditsHeld, JobCancelled, KeyLimitReached, ProviderFailed
from models.job import BodyAt, Job, Status
from tests.billing.test_ledger import answer, claim
from tests.job_rows import job_row, make_account, quote

pytestmark = pytest.mark.usefixtures("stored")


def make_key(account_id: int, limit: int | None = None, daily: int | None = None) -> int:
    return keys.create(account_id, limits=Limits(credit_limit=limit, daily_limit=daily))[0]


def hold(account_id: int, key_id: int, most: int = 1000, least: int = 1000) -> tuple[str, Hold]:
    """Hold 4 credits for a chat, by default."""
    row = job_row(account_id, key_id=key_id)
    held = holds.hold(row, quote(most, least))
    assert isinstance(held, Hold)
    return row["id"], held


def hold_line(account_id: int, key_id: int) -> tuple[str, object]:
    row = job_row(account_id, key_id=key_id, batch_id="batch_1", line=1, body_at=BodyAt.FILE)
    return row["id"], database.run(lambda each: holds.hold_line(each, row, quote(1000, 1000)))


def spent(key_id: int) -> tuple[int, int]:
    """Return what the key has spent in all and on its newest day; its jobs say the same."""
    assert key_spending.wrong_counts() == []
    row: Any = database.one(database.table(Key).select().where(col(Key.id) == key_id), Key)
    return row.spent, row.spent_on_day


@pytest.mark.parametrize("daily", [False, True])
def test_of_many_calls_at_once_a_key_pays_for_as_many_as_its_limit(daily: bool) -> None:
    account_id = make_account(1000)
    # Ten calls of 4 credits fit, and an eleventh that is content with less.
    key_id = make_key(account_id, **{"daily" if daily else "limit": 42})
    callers = 40
    together = threading.Barrier(callers)

    def call(number: int) -> int:
        together.wait()
        try:
            return hold(account_id, key_id, least=256 if number % 2 else 1000)[1].credits
        except KeyLimitReached as error:
            assert (error.status, error.retryable) == (402, False)
            return 0

    with ThreadPoolExecutor(callers) as threads:
        held = sum(threads.map(call, range(callers)))

    assert 40 <= held <= 42
    assert spent(key_id) == (held, held)
    assert ledger.standing(account_id).held == held


def test_what_ends_gives_back_what_it_did_not_cost() -> None:
    account_id = make_account(1000)
    key_id, other = make_key(account_id, limit=16, daily=16), make_key(account_id)
    settled, failed, cancelled, waiting = (hold(account_id, key_id)[0] for _ in range(4))
    with pytest.raises(KeyLimitReached):
        hold(account_id, key_id)
    hold(account_id, other)  # A key without a limit is not concerned, and not counted.

    settlement.settle(claim(settled), answer(10, 500))
    settlement.fail(claim(failed), ProviderFailed("It broke."))
    settlement.settle_cancelled(claim(cancelled), answer(10, 500), JobCancelled("So be it."))
    settlement.end_unclaimed(waiting, Status.CANCELLED, JobCancelled("So be it."))

    assert spent(key_id) == (4, 4)
    assert spent(other) == (0, 0)
    for _ in range(3):
        hold(account_id, key_id)
    with pytest.raises(KeyLimitReached):
        hold(account_id, key_id)


def test_a_call_asks_for_less_output_where_its_key_affords_no_more() -> None:
    account_id = make_account(1000)
    key_id = make_key(account_id, limit=6)
    hold(account_id, key_id)

    _, held = hold(account_id, key_id, most=8192, least=256)

    assert held == Hold(2, 663)
    assert spent(key_id) == (6, 6)


def test_a_cost_beyond_the_hold_does_not_pass_the_keys_limit() -> None:
    account_id = make_account(1000)
    for limits in ({"limit": 10}, {"daily": 10}):
        key_id = make_key(account_id, **limits)
        first, _ = hold(account_id, key_id)
        hold(account_id, key_id)

        settled = settlement.settle(claim(first), answer(20_000, 0))

        # The other call's hold of 4 stays untouched.
        assert settled is not None and settled.charged == 6
        assert spent(key_id) == (10, 10)


def test_a_job_belongs_to_the_day_of_its_hold() -> None:
    account_id = make_account(1000)
    key_id = make_key(account_id, daily=5)
    yesterdays, _ = hold(account_id, key_id)
    with pytest.raises(KeyLimitReached, match="midnight UTC"):
        hold(account_id, key_id)
    pass_a_day()

    todays, _ = hold(account_id, key_id)
    settlement.settle(claim(yesterdays), answer(10, 500))

    # What yesterday's gave back is not today's to spend.
    assert spent(key_id) == (6, 4)
    with pytest.raises(KeyLimitReached):
        hold(account_id, key_id)
    settlement.settle(claim(todays), answer(10, 500))
    assert spent(key_id) == (4, 2)


def pass_a_day() -> None:
    """Let all that has been held have been held yesterday."""
    database.execute(update(Key).values(spent_day=col(Key.spent_day) - 1))
    database.execute(update(Job).values(key_day=col(Job.key_day) - 1))


def test_a_line_waits_for_what_its_key_holds_and_for_nothing_else() -> None:
    account_id = make_account(1000)
    key_id = make_key(account_id, limit=6, daily=100)
    running, held = hold_line(account_id, key_id)
    assert isinstance(held, Hold)
    assert isinstance(hold_line(account_id, key_id)[1], CreditsHeld)
    assert spent(key_id) == (4, 4)

    settlement.settle(claim(running), answer(10, 1000))

    assert isinstance(hold_line(account_id, key_id)[1], KeyLimitReached)
    assert spent(key_id) == (4, 4)


def test_the_audit_finds_a_count_that_is_wrong() -> None:
    account_id = make_account(1000)
    key_id = make_key(account_id, limit=100)
    hold(account_id, key_id)
    database.execute(update(Key).where(col(Key.id) == key_id).values(spent=5))

    (wrong,) = key_spending.wrong_counts()

    assert (wrong.key_id, wrong.spent, wrong.recomputed) == (key_id, 5, 4)
    assert (wrong.spent_on_day, wrong.recomputed_on_day) == (4, 4)
