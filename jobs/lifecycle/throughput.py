"""Throughput per job kind, and the queue wait estimated from it."""

import time
from collections import Counter
from typing import cast

import redis

from config.redis import connection

#: Finished jobs are counted per time bucket; throughput is that of the last buckets.
BUCKET_SECONDS = 10
BUCKETS = 6

_unreported: Counter[str] = Counter()


def record_done(kind: str) -> None:
    """Count a job that was finished in this process."""
    _unreported[kind] += 1


def report() -> None:
    """Add the jobs finished here since the last call to the counts that all processes share."""
    if not _unreported:
        return
    reported = dict(_unreported)
    with connection().pipeline(transaction=False) as pipeline:
        for kind, count in reported.items():
            pipeline.incrby(_key(kind, _bucket()), count)
            pipeline.expire(_key(kind, _bucket()), BUCKET_SECONDS * (BUCKETS + 2))
        pipeline.execute()
    _unreported.subtract(reported)
    for kind in [kind for kind, count in _unreported.items() if not count]:
        del _unreported[kind]


def wait_seconds(kind: str, position: int | None) -> int | None:
    """Return how long a job at `position` of its queue will wait at the present throughput.

    None if it does not wait, or if nothing was finished lately, so that no estimate is possible.
    """
    if position is None:
        return None
    try:
        per_second = _per_second(kind)
    except redis.RedisError:
        return None
    return round(position / per_second) if per_second else None


def _per_second(kind: str) -> float:
    now = _bucket()
    keys = [_key(kind, now - age) for age in range(BUCKETS)]
    counts = [int(count or 0) for count in cast("list[bytes | None]", connection().mget(keys))]
    # The buckets before the first job count for nothing, and the present one is not over.
    oldest = max((age for age, count in enumerate(counts) if count), default=None)
    if oldest is None:
        return 0.0
    seconds = oldest * BUCKET_SECONDS + time.time() % BUCKET_SECONDS
    return sum(counts) / max(1.0, seconds)


def _bucket() -> int:
    return int(time.time() // BUCKET_SECONDS)


def _key(kind: str, bucket: int) -> str:
    return f"likedo:pace:{kind}:{bucket}"
