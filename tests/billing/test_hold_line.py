"""Holding for a batch's line: in full or later, never in the way of others, never twice."""

import time

import pytest
from sqlalchemy import Connection

import database
from access import accounts, keys
from billing import holds, ledger, pricing
from billing.holds import Hold
from billing.pricing import ChatQuote
from config.settings import settings
from jobs.lifecycle import store
from models import job
from models.errors import CreditsHeld, InsufficientCredits, Overloaded
from models.job import BodyAt
from tests.billing.test_ledger import PRICE, hold, make_account

pytestmark = pytest.mark.usefixtures("stored")


def hold_line(account_id: int, most: int, least: int) -> Hold | CreditsHeld | InsufficientCredits:
    key_id, _ = keys.create(account_id)
    row = {
        "id": job.make_id(),
        "account_id": account_id,
        "key_id": key_id,
        "kind": "chat",
        "model": "gpt-4",
        "fingerprint": "",
        "batch_id": "batch_1",
        "line": 1,
        "body_bytes": 100,
        "body_at": BodyAt.FILE,
        "created": time.time(),
        "enqueued_at": time.time(),
        "price": pricing.as_text(PRICE),
    }
    terms = ChatQuote((PRICE,), 10, 1, most, least)

    def work(connection: Connection) -> Hold | CreditsHeld | InsufficientCredits:
        return holds.hold_line(connection, row, terms)

    return database.run(work)


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


def test_lines_stand_in_nobodys_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "max_queue_depth", 1)
    account_id = accounts.create("someone", "pro")
    ledger.grant(account_id, 100)
    for _ in range(5):
        assert isinstance(hold_line(account_id, most=100, least=100), Hold)

    job_id, held = hold(account_id)

    assert held.has_slot
    row = store.find(job_id)
    assert row is not None and store.position(row) == 1
    assert [listed.id for listed in store.listing(10, account_id)] == [job_id]
    with pytest.raises(Overloaded):
        hold(account_id)
