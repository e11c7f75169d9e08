"""Taking turns: long work in one greenlet lets the others of its process run in between."""

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

import gevent

#: CPU seconds that a greenlet may hold the loop before it lets others run.
TURN_SECONDS = 0.005
#: Items between two looks at the clock, which cost more than many an item.
ITEMS_PER_LOOK = 32

T = TypeVar("T")
TextT = TypeVar("TextT", bytes, str)

_turn_began = 0.0


def pause() -> None:
    """Let other greenlets run if the loop was held for `TURN_SECONDS` since they last could.

    Not for code that must not be interrupted, such as a function of `database.run`.
    """
    global _turn_began
    # CPU time of the thread: a busy machine must not make every look a pause.
    if time.thread_time() - _turn_began >= TURN_SECONDS:
        gevent.sleep(0)
        _turn_began = time.thread_time()


def in_turns(items: Iterable[T]) -> Iterator[T]:
    """Yield `items`, pausing between them whenever that is due."""
    for number, item in enumerate(items, 1):
        yield item
        if number % ITEMS_PER_LOOK == 0:
            pause()


def slices(text: TextT, size: int) -> Iterator[TextT]:
    """Yield `text` in slices of `size`, pausing between them whenever that is due."""
    for start in range(0, len(text), size):
        yield text[start : start + size]
        pause()
