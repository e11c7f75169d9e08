"""Hold, settle, release: whatever happens in whatever order, the books are right."""

from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from typing import Any

import pytest
from sqlalchemy import select
from sqlmodel import col

import database
from access import keys
from billing import holds, ledger, pricing, settlement
from billing.holds import Hold
from billing.outcomes import ChatOutcome, ClaimedJob, UpstreamAttribution
from config.catalog.model import ChatPrice
from jobs.lifecycle import store
from models import credit
from models.account import Account
from models.chat import Usage
from models.credit import Entry
from models.errors import (
    CreditsHeld,
    InsufficientCredits,
    JobCancelled,
    ProviderFailed,
    Unavailable,
)
from models.job import BodyAt, Job, Status
from tests.job_rows import PRICE, job_row, make_account, quote

pytestmark = pytest.mark.usefixtures("stored")


def hold(
    account_id: int,
    most: int = 1000,
    least: int = 1000,
    body_bytes: int = 100,
    price: ChatPrice = PRICE,
) -> tuple[str, Hold]:
    """Hold for a chat with 10 prompt tokens and up to `most` output tokens."""
    row = job_row(account_id, body_bytes=body_bytes, price=pricing.as_text(price))
    return str(row["id"]), holds.hold(row, quote(most, least, price))


def claim(job_id: str) -> ClaimedJob:
    claimed = store.claim(job_id, "a-worker")
    assert claimed is not None
    return claimed.job


def answer(prompt: int = 10, completion: int = 5, free: bool = False) -> ChatOutcome:
    asked = UpstreamAttribution("openai", "gpt-4.1")
    return ChatOutcome({"id": "x", "choices": []}, Usage(prompt, completion), asked, free)


def standing(account_id: int) -> tuple[int, int]:
    found = ledger.standing(account_id)
    return found.balance, found.held


def entries(account_id: int) -> list[Any]:
    def select_entries(connection: Any) -> list[Any]:
        query = select(database.table(Entry)).where(col(Entry.account_id) == account_id)
        return list(connection.execute(query.order_by(col(Entry.id))))

    return database.run(select_entries)


def test_a_hold_takes_the_most_that_a_call_can_cost() -> None:
    account = make_account(100)

    _, held = hold(account, most=1000)

    assert held == Hold(4, 1000)
    assert standing(account) == (100, 4)


def test_a_hold_buys_less_output_where_the_balance_is_small() -> None:
    account = make_account(2)

    _, held = hold(account, most=8192, least=256)

    assert held == Hold(2, 663)
    assert standing(account) == (2, 2)


def test_a_hold_that_is_not_affordable_writes_nothing() -> None:
    account = make_account(3)

    with pytest.raises(InsufficientCredits):
        hold(account, most=1000)

    assert standing(account) == (3, 0)


def test_also_a_model_without_a_price_costs_a_credit() -> None:
    account = make_account(1)
    free = ChatPrice(prompt=Fraction(0), completion=Fraction(0))

    hold(account, price=free)
    with pytest.raises(CreditsHeld):
        hold(account, price=free)

    assert standing(account) == (1, 1)


def test_a_hold_that_waits_for_other_calls_is_told_so() -> None:
    account = make_account(4)
    hold(account)

    with pytest.raises(CreditsHeld):
        hold(account)

    assert standing(account) == (4, 4)


def test_settling_charges_the_real_cost_and_gives_the_rest_back() -> None:
    account = make_account(100)
    job_id, _ = hold(account)

    settled = settlement.settle(claim(job_id), answer(10, 500))

    assert settled is not None
    assert (settled.charged, settled.available) == (2, 98)
    assert settled.body.endswith(b'"credits_consumed":2}')
    assert store.result(job_id) == settled.body
    assert standing(account) == (98, 0)


def test_settling_twice_changes_nothing() -> None:
    account = make_account(100)
    job_id, _ = hold(account)
    claimed = claim(job_id)

    first, second = settlement.settle(claimed, answer()), settlement.settle(claimed, answer())

    assert first is not None and second is None
    assert standing(account) == (99, 0)
    assert [entry.kind for entry in entries(account)] == ["grant", "charge"]


def test_an_attempt_that_lost_the_job_cannot_settle_it() -> None:
    account = make_account(100)
    job_id, _ = hold(account)
    lost = claim(job_id)
    assert store.hand_back(lost, [])
    found = claim(job_id)

    assert settlement.settle(lost, answer()) is None
    assert not settlement.fail(lost, ProviderFailed("late"))
    assert settlement.settle(found, answer()) is not None
    assert standing(account) == (99, 0)


def test_a_failed_job_gives_the_hold_back() -> None:
    account = make_account(100)
    job_id, _ = hold(account)

    assert settlement.fail(claim(job_id), ProviderFailed("It broke."))

    assert standing(account) == (100, 0)
    row = store.find(job_id)
    assert row is not None and (row.status, row.charged) == (Status.FAILED, 0)


def test_a_queued_job_ends_free_and_is_then_not_there_to_claim() -> None:
    account = make_account(100)
    job_id, _ = hold(account)

    assert settlement.end_unclaimed(job_id, Status.CANCELLED, JobCancelled("So it was asked."))

    assert standing(account) == (100, 0)
    assert store.claim(job_id, "a-worker") is None
    assert not settlement.end_unclaimed(job_id, Status.FAILED, Unavailable("again"))
    assert standing(account) == (100, 0)


def test_a_running_job_that_is_cancelled_pays_for_its_prompt() -> None:
    account = make_account(100)
    job_id, _ = hold(account)

    gone = JobCancelled("So it was asked.")
    used = ChatOutcome({}, Usage(2500, 0, estimated=True), UpstreamAttribution("openai", "gpt-4.1"))
    settled = settlement.settle_cancelled(claim(job_id), used, gone)

    assert settled is not None and settled.charged == 3
    assert standing(account) == (97, 0)


def test_a_cost_beyond_the_balance_is_written_off() -> None:
    account = make_account(10)
    first, _ = hold(account)
    hold(account)

    settled = settlement.settle(claim(first), answer(20_000, 0))

    # The other call's hold of 4 stays untouched.
    assert settled is not None and settled.charged == 6
    assert standing(account) == (4, 4)
    assert [(entry.kind, entry.credits) for entry in entries(account)] == [
        ("grant", 10),
        ("write_off", 14),
        ("charge", -20),
    ]


def test_a_free_answer_makes_no_entry() -> None:
    account = make_account(10)
    job_id, _ = hold(account)

    settled = settlement.settle(claim(job_id), answer(free=True))

    assert settled is not None and settled.charged == 0
    assert [entry.kind for entry in entries(account)] == ["grant"]


def test_each_entry_follows_the_one_before_it() -> None:
    account = make_account(10)
    for _ in range(3):
        job_id, _ = hold(account)
        settlement.settle(claim(job_id), answer())

    previous, balance = credit.NO_ENTRY, 0
    for entry in entries(account):
        balance += entry.credits
        assert (entry.previous_hash, entry.balance_after) == (previous, balance)
        previous = credit.chain(
            previous, account, entry.job_id, entry.kind, entry.credits, balance, entry.reason
        )
        assert entry.hash == previous
    head = select(col(Account.chain)).where(col(Account.id) == account)
    assert database.run(lambda connection: connection.execute(head).scalar_one()) == previous


def test_an_entrys_hash_depends_on_all_it_says_and_on_the_entry_before() -> None:
    entry = ("0" * 64, 1, "job_1", "charge", -5, 95, "a test")
    others = ("1" * 64, 2, "job_2", "grant", -6, 94, "another")

    changed = {
        credit.chain(*entry[:place], other, *entry[place + 1 :])
        for place, other in enumerate(others)
    }

    assert len(changed | {credit.chain(*entry)}) == 8


def test_a_grant_cannot_take_what_running_calls_hold() -> None:
    account = make_account(10)
    hold(account)

    with pytest.raises(InsufficientCredits):
        ledger.grant(account, -7)

    assert ledger.grant(account, -6) == 4
    assert standing(account) == (4, 4)


def test_the_held_credits_are_the_sum_of_the_unfinished_jobs() -> None:
    account = make_account(100)
    ids = [hold(account)[0] for _ in range(5)]
    settlement.settle(claim(ids[0]), answer())
    settlement.fail(claim(ids[1]), ProviderFailed("It broke."))
    claim(ids[2])

    unfinished = select(col(Job.held)).where(col(Job.status).in_(["queued", "in_progress"]))
    held = database.run(lambda connection: list(connection.execute(unfinished).scalars()))

    assert sum(held) == standing(account)[1] == 12


def test_holds_by_name_and_without_never_wait_for_each_other_in_a_circle() -> None:
    """The queue's lock and the account's are taken in one order, also for large bodies."""
    account = make_account(100_000)
    key_id, _ = keys.create(account)

    def take(number: int) -> str:
        row = job_row(account, key_id=key_id, body_bytes=100_000, body_at=BodyAt.STORAGE)
        name = f"{number:064}" if number % 2 else None
        held = holds.hold(row, quote(1000, 1000), key_digest=name)
        return type(held).__name__

    with ThreadPoolExecutor(8) as threads:
        held = list(threads.map(take, range(160)))

    assert held == ["Hold"] * 160
