"""How fast jobs of each kind are done just now, by all workers together, and what a wait is."""

import time
from collections import Counter
from typing import cast

import redis

from config.redis import connection

#: Jobs are counted in slices of time; the pace is that of the last ones.
SLICE_SECONDS = 10
SLICES = 6

_done: Counter[str] = Counter()


def record_done(kind: str) -> None:
    """Note that a job was done here."""
    _done[kind] += 1


def report() -> None:
    """Tell the others what was done here since this was last called."""
    if not _done:
        return
    told = dict(_done)
    with connection().pipeline(transaction=False) as pipeline:
        for kind, count in told.items():
            pipeline.incrby(_key(kind, _slice()), count)
            pipeline.expire(_key(kind, _slice()), SLICE_SECONDS * (SLICES + 2))
        pipeline.execute()
    _done.subtract(told)
    for kind in [kind for kind, count in _done.items() if not count]:
        del _done[kind]


def wait_seconds(kind: str, position: int | None) -> int | None:
    """Return how long a job at `position` of its queue will wait at the present pace.

    None where it does not wait, or none was done lately, so that nobody can tell.
    """
    if position is None:
        return None
    try:
        per_second = _per_second(kind)
    except redis.RedisError:
        return None
    return round(position / per_second) if per_second else None


def _per_second(kind: str) -> float:
    now = _slice()
    keys = [_key(kind, now - back) for back in range(SLICES)]
    counts = [int(found or 0) for found in cast("list[bytes | None]", connection().mget(keys))]
    # Slices before the first job tell nothing; nor is the present one over.
    first = max((back for back, count in enumerate(counts) if count), default=None)
    if first is None:
        return 0.0
    seconds = first * SLICE_SECONDS + time.time() % SLICE_SECONDS
    return sum(counts) / max(1.0, seconds)


def _slice() -> int:
    return int(time.time() // SLICE_SECONDS)


def _key(kind: str, number: int) -> str:
    return f"likedo:pace:{kind}:{number}"
