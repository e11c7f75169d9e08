"""Chats that are held for in this process, as a request would have them held for."""

import time
from typing import Any

from access import keys
from billing import holds, pricing
from billing.holds import Hold
from billing.pricing import ChatQuote
from config.catalog.load import catalog
from models.job import make_id

PRICE = catalog.chat.price


def hold(
    account_id: int, max_running: int = 10**9, body: bytes | None = None, **columns: Any
) -> str:
    """Hold for a small chat under a new key of the account, and return its id.

    `columns` are those of its row that are to be other than usual.
    """
    key_id, _ = keys.create(account_id)
    row = {
        "id": make_id(),
        "account_id": account_id,
        "key_id": key_id,
        "kind": "chat",
        "model": "gpt-4",
        "fingerprint": "f" * 64,
        "body_bytes": 100,
        "body_at": "redis",
        "created": time.time(),
        "enqueued_at": time.time(),
        "price": pricing.as_text(PRICE),
    }
    row |= columns
    held = holds.hold(row, ChatQuote((PRICE,), 10, 1, 100, 100), max_running, body=body)
    assert isinstance(held, Hold)
    return str(row["id"])
