"""Holding for a batch's line: in full or later, never in the way of others, never twice."""

import pytest
from sqlalchemy import Connection

import database
from billing import holds, ledger
from billing.holds import Hold
from config.settings import settings
from jobs.lifecycle import listing, store
from models.errors import CreditsHeld, InsufficientCredits, Overloaded
from models.job import BodyAt
from tests.billing.test_ledger import hold
from tests.job_rows import job_row, make_account, quote

pytestmark = pytest.mark.usefixtures("stored")


def hold_line(account_id: int, most: int, least: int) -> Hold | CreditsHeld | InsufficientCredits:
    row = job_row(account_id, batch_id="batch_1", line=1, body_at=BodyAt.FILE)

    def hold_it(connection: Connection) -> Hold | CreditsHeld | InsufficientCredits:
        return holds.hold_line(connection, row, quote(most, least))

    return database.run(hold_it)


def test_a_line_is_held_for_in_full_where_that_is_there() -> None:
    account_id = make_account(10)

    assert hold_line(account_id, most=3000, least=256) == Hold(10, 3000)
    assert ledger.standing(account_id).available == 0


def test_a_line_waits_for_what_others_hold_rather_than_say_less() -> None:
    account_id = make_account(10)
    hold(account_id)

    assert isinstance(hold_line(account_id, most=3000, least=256), CreditsHeld)
    assert ledger.standing(account_id).held == 4


def test_a_line_says_less_where_the_whole_balance_affords_no_more() -> None:
    account_id = make_account(10)

    assert hold_line(account_id, most=8000, least=256) == Hold(10, 3330)


def test_a_line_that_the_balance_does_not_afford_never_begins() -> None:
    account_id = make_account(2)

    assert isinstance(hold_line(account_id, most=3000, least=3000), InsufficientCredits)
    assert ledger.standing(account_id).held == 0


def test_batch_lines_do_not_count_towards_the_queues_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "max_queue_depth", 1)
    account_id = make_account(100)
    for _ in range(5):
        assert isinstance(hold_line(account_id, most=100, least=100), Hold)

    job_id, held = hold(account_id)

    assert held.has_slot
    row = store.find(job_id)
    assert row is not None and store.position(row) == 1
    assert [listed.id for listed in listing.newest(10, account_id)] == [job_id]
    with pytest.raises(Overloaded):
        hold(account_id)
