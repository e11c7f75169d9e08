"""How much of one kind an account may have open at a time in this process."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gevent.lock import BoundedSemaphore

from models.errors import Overloaded


class _Account:
    """The slots of one account, while it uses or waits for any."""

    def __init__(self, limit: int) -> None:
        self.semaphore = BoundedSemaphore(limit)
        self.users = 0


class Slots:
    """So many slots for each account, and for all of them together."""

    def __init__(
        self, limit: int, refusal: str, *, wait_seconds: float = 0, total: int = 10_000
    ) -> None:
        """`limit`: of one account; `refusal`: what it is told if none was free for `wait_seconds`.

        `total`: of all accounts.
        """
        self.limit, self.refusal, self.wait_seconds = limit, refusal, wait_seconds
        self.free = total
        self._accounts: dict[int, _Account] = {}

    def take(self, account_id: int) -> Callable[[], None]:
        """Take a slot; return what gives it back, once. Raises `Overloaded` if none is free."""
        if self.free <= 0:
            raise Overloaded("This server is too busy with others for that. Try again in a moment.")
        account = self._accounts.setdefault(account_id, _Account(self.limit))
        account.users += 1
        self.free -= 1
        if not account.semaphore.acquire(self.wait_seconds > 0, self.wait_seconds or None):
            self._leave(account_id)
            raise Overloaded(self.refusal)
        owed: list[Callable[[], object]] = [
            account.semaphore.release,
            lambda: self._leave(account_id),
        ]

        def give_back() -> None:
            while owed:
                owed.pop(0)()

        return give_back

    @contextmanager
    def taken(self, account_id: int) -> Iterator[None]:
        """Have a slot for the length of the block; raise `Overloaded` if none is free."""
        give_back = self.take(account_id)
        try:
            yield
        finally:
            give_back()

    def _leave(self, account_id: int) -> None:
        account = self._accounts[account_id]
        account.users -= 1
        self.free += 1
        if not account.users:
            del self._accounts[account_id]
