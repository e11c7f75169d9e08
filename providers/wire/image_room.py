"""Room for the images that are fetched for a request: bytes for each request, source and process.

Images named by URL are in memory until the provider has read the request. So an image is read only
if there is room for it; else it is fetched again once there is room for all of it. Neither those
whose servers have not answered yet nor those who wait for a first image take any room.
"""

import threading
import time
from collections import Counter
from types import TracebackType
from typing import Self

from config.settings import MIB, settings
from models.errors import InvalidRequest, Overloaded
from net.call import Call

#: Room for an image whose server does not announce its size; what it does not need is given back.
FIRST_BYTES = 4 * MIB
#: How long a request that keeps earlier images waits for room for the next.
KEEPERS_SECONDS = 10.0
#: How often one that waits looks whether its call is over.
LOOK_SECONDS = 1.0
#: A source may take this share of the process's room, so that no one source takes all of it.
SOURCES_SHARE = 4

FULL = (
    "There is no room for more images named by URL at present. Try again, or send the images as "
    "data URLs."
)
SHARE_USED = (
    "Your other requests take up your share of the room for images named by URL. Try again when "
    "they have ended, or send the images as data URLs."
)


class NeedsRoom(Exception):
    """An image is larger than what was reserved, and there is no room for it now."""

    def __init__(self, size: int) -> None:
        super().__init__(f"It needs {size} bytes.")
        self.size = size


class _Wish:
    """So many bytes that a source waits for."""

    def __init__(self, source: str, size: int) -> None:
        self.source, self.size = source, size


class _Process:
    """The room of this process, and who has taken how much of it, in bytes."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._taken: Counter[str] = Counter()
        #: In the order in which they came.
        self._wishes: list[_Wish] = []

    @property
    def taken(self) -> int:
        return self._taken.total()

    def take(self, call: Call, size: int, seconds: float) -> None:
        """Take `size` bytes for the call's source; wait for up to `seconds` until there is room.

        Raises `Overloaded` if there is none, and as `call.check` does.
        """
        wish = _Wish(call.source, size)
        deadline = time.monotonic() + min(seconds, call.seconds_left - LOOK_SECONDS)
        with self._changed:
            self._wishes.append(wish)
            try:
                while refusal := self._refusal(wish):
                    call.check()
                    left = deadline - time.monotonic()
                    if left <= 0:
                        raise Overloaded(refusal)
                    self._changed.wait(min(left, LOOK_SECONDS))
                self._taken[call.source] += size
            finally:
                self._wishes.remove(wish)
                self._changed.notify_all()

    def give_back(self, source: str, size: int) -> None:
        with self._changed:
            self._taken[source] -= size
            self._taken += Counter()  # Drops what is 0.
            self._changed.notify_all()

    def _refusal(self, wish: _Wish) -> str | None:
        """Return why a wish cannot be granted now; None if it can."""
        if self._is_over_share(wish):
            return SHARE_USED
        earlier = self._wishes[: self._wishes.index(wish)]
        is_next = all(map(self._is_over_share, earlier))
        # One request alone always finds room.
        room = max(settings.image_url_bytes, settings.image_url_request_bytes)
        return None if is_next and self.taken + wish.size <= room else FULL

    def _is_over_share(self, wish: _Wish) -> bool:
        share = max(settings.image_url_bytes // SOURCES_SHARE, settings.image_url_request_bytes)
        return self._taken[wish.source] + wish.size > share


this_process = _Process()


class Room:
    """The room of one request with so many `images`, given back at the end of the block."""

    def __init__(self, call: Call, images: int = 1) -> None:
        #: The call for which images are fetched.
        self.call = call
        self._images = images
        self._taken = 0
        #: The bytes of the images that were fetched, and of the one that is being fetched.
        self._kept = self._current = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.leave()

    def reserve(self, size: int) -> None:
        """Wait until there is room for the next image, of `size` bytes.

        Raises `Overloaded` if there is none until the call's deadline, or for 10 seconds if earlier
        images are kept.
        """
        wanted = min(self._kept + size, settings.image_url_request_bytes) - self._taken
        if wanted > 0:
            self._take(wanted, KEEPERS_SECONDS if self._kept else self.call.seconds_left)

    def expect(self, size: int, param: str) -> None:
        """Make sure that there is room for the image at `param` in the request, of `size` bytes.

        Raises `InvalidRequest` if the request's images are too large together, and `NeedsRoom`.
        """
        needed, most = self._kept + size, settings.image_url_request_bytes
        if needed > most:
            raise InvalidRequest(
                "The images named by URL are larger together than "
                f"{most / MIB:g} MiB, the most that is fetched for one request. Send fewer or "
                "smaller ones.",
                param=param,
            )
        if needed <= self._taken:
            return
        if not self._kept and self._images > 1:
            # For the others, too: who keeps an image should not have to wait for the next.
            needed = max(needed, min(FIRST_BYTES * self._images, most))
        try:
            self._take(needed - self._taken, 0)
        except Overloaded:
            self._shrink()
            raise NeedsRoom(needed - self._kept) from None

    def begin(self, announced: int, param: str) -> None:
        """Begin an image of `announced` bytes, 0 if unknown; raises as `expect` does."""
        self._current = 0
        left = settings.image_url_request_bytes - self._kept
        self.expect(announced or min(FIRST_BYTES, max(left, 1)), param)

    def add(self, size: int, param: str) -> None:
        """Count `size` further bytes of the image; raises as `expect` does."""
        self._current += size
        try:
            self.expect(self._current, param)
        except NeedsRoom:
            raise NeedsRoom(settings.image_url_request_bytes - self._kept) from None

    def keep(self) -> None:
        """Keep the image that was fetched."""
        self._kept += self._current
        self._current = 0

    def close(self) -> None:
        """Give back what is not used: all images are there."""
        self._current = 0
        self._shrink()

    def leave(self) -> None:
        """Give everything back: the images are no longer in memory. Idempotent."""
        self._kept = 0
        self.close()

    def _take(self, size: int, seconds: float) -> None:
        this_process.take(self.call, size, seconds)
        self._taken += size

    def _shrink(self) -> None:
        this_process.give_back(self.call.source, self._taken - self._kept)
        self._taken = self._kept
