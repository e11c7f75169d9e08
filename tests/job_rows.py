"""Accounts and jobs written to this process's database, for tests that need no request for them."""

import time
from fractions import Fraction
from typing import Any

from access import accounts, keys
from billing import holds, ledger, pricing
from billing.holds import Hold
from billing.pricing import ChatQuote
from config.catalog.model import ChatPrice
from models.job import BodyAt, make_id

#: Credits for 1000 tokens.
PRICE = ChatPrice(prompt=Fraction(1), completion=Fraction(3))


def make_account(credits: int = 1000) -> int:
    """Make an account of the plan `pro` with so many credits, and return its id."""
    account_id = accounts.create(f"account-{time.monotonic_ns()}", "pro")
    if credits:
        ledger.grant(account_id, credits, "a test")
    return account_id


def job_row(account_id: int, **columns: Any) -> dict[str, Any]:
    """Return what a request for a small chat writes into `jobs`; `columns` are to be different.

    Without a `key_id`, the account gets another key.
    """
    if "key_id" not in columns:
        columns["key_id"], _ = keys.create(account_id)
    row = {
        "id": make_id(),
        "account_id": account_id,
        "kind": "chat",
        "model": "gpt-4",
        "fingerprint": "f" * 64,
        "body_bytes": 100,
        "body_at": BodyAt.REDIS,
        "attempts": 0,
        "cancel_requested": False,
        "created": time.time(),
        "enqueued_at": time.time(),
        "price": pricing.as_text(PRICE),
    }
    return row | columns


def quote(max_output: int = 100, min_output: int = 100, price: ChatPrice = PRICE) -> ChatQuote:
    """Return the quote of a chat with 10 prompt tokens and up to `max_output` output tokens."""
    return ChatQuote((price,), 10, 1, max_output, min_output)


def hold(
    account_id: int, max_running: int = 10**9, body: bytes | None = None, **columns: Any
) -> str:
    """Hold for a small chat of the account, and return its id; `columns` as for `job_row`."""
    row = job_row(account_id, **columns)
    held = holds.hold(row, quote(), max_running, body=body)
    assert isinstance(held, Hold)
    return str(row["id"])
