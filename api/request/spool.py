"""Bodies that are still arriving: how many of an account's, and how much of the disk they take."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from api.request.slots import Slots
from config.settings import settings
from models.errors import Overloaded

#: The beginning of a body is in memory; what is longer is in a file until it is complete.
MEMORY_BYTES = 64 * 1024
#: A burst of bodies over a fast network passes within this time.
WAIT_SECONDS = 2

open_bodies = Slots(
    settings.max_open_bodies,
    f"Your account is sending more than {settings.max_open_bodies} bodies at a time. Wait until "
    "some have arrived.",
    wait_seconds=WAIT_SECONDS,
)
#: The bytes on disk, by account.
_used: Counter[int] = Counter()


class Share:
    """What one body takes of the disk."""

    def __init__(self, account_id: int) -> None:
        self.account_id = account_id
        self.bytes = 0

    def add(self, size: int) -> None:
        """Take `size` bytes more; raise `Overloaded` if there is no room for them.

        From half of the room on, an account has a quarter, so that one cannot take it all.
        """
        total, own = _used.total() + size, _used[self.account_id] + size
        if total > settings.max_spool_bytes // 2 and own > settings.max_spool_bytes // 4:
            raise Overloaded(
                "Your account is sending too many large bodies at a time. Wait until some have "
                "arrived."
            )
        if total > settings.max_spool_bytes:
            raise Overloaded(
                "This server is receiving too many large bodies at a time. Send yours again in a "
                "moment."
            )
        _used[self.account_id] = own
        self.bytes += size


@contextmanager
def share(account_id: int) -> Iterator[Share]:
    """Give a body's share of the disk, which is free again after the block."""
    share = Share(account_id)
    try:
        yield share
    finally:
        _used[account_id] -= share.bytes
        if not _used[account_id]:
            del _used[account_id]
