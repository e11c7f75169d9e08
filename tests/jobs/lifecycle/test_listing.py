"""Listings: the newest jobs first, whatever their status, kind and account."""

from itertools import product

import pytest
from sqlalchemy import insert

import database
from jobs.lifecycle import listing
from models.job import FINAL, Job, Status
from tests.job_rows import job_row, make_account

pytestmark = pytest.mark.usefixtures("stored")

KINDS = ("chat", "image")


def test_a_listing_has_what_matches_newest_first_page_by_page() -> None:
    accounts = [make_account(), make_account()]
    facts = list(product(accounts, KINDS, map(str, Status), (None, "batch_1"), (1.0, None))) * 2
    rows = [
        job_row(account, kind=kind, status=status, batch_id=batch, enqueued_at=slot)
        # Some are of the same moment.
        | {"created": float(number // 3), "held": 0, "max_tokens": 1, "finished_at": None}
        for number, (account, kind, status, batch, slot) in enumerate(facts)
        # Only a queued job can be without a slot.
        if slot is not None or status == Status.QUEUED or status in FINAL
    ]
    database.run(lambda connection: connection.execute(insert(Job), rows) and None)
    newest = sorted(rows, key=lambda row: (row["created"], row["id"]), reverse=True)

    for account, status, kind in product(
        (None, accounts[0]), (None, *map(str, Status)), (None, *KINDS)
    ):
        wanted = [
            row["id"]
            for row in newest
            if row["batch_id"] is None
            and account in (None, row["account_id"])
            and status in (None, row["status"])
            and kind in (None, row["kind"])
        ]
        listed: list[Job] = []
        while page := listing.newest(5, account, status, kind, listed[-1] if listed else None):
            listed += page
        assert [job.id for job in listed] == wanted and wanted
