"""Which jobs run among which: what one worker runs at a time of each kind."""

from collections.abc import Iterator

import fakeredis
import pytest

from jobs.worker.greenlet_worker import GreenletWorker


@pytest.fixture
def store() -> Iterator[fakeredis.FakeRedis]:
    store = fakeredis.FakeRedis()
    yield store
    store.close()


def worker(store: fakeredis.FakeRedis, images: int) -> GreenletWorker:
    names = {"chat": 100, "image": images, "image-lines": 1, "batch": max(1, images // 2)}
    return GreenletWorker(names, 100, store, {})


def begin_all(worker: GreenletWorker, name: str) -> int:
    """Take slots for jobs of a queue until there are none; return how many that were."""
    (queue,) = [queue for queue in worker.queues if queue.name == name]
    count = 0
    while all(slots.acquire(blocking=False) for slots in worker.slots.semaphores(queue)):
        count += 1
    return count


def test_batches_run_among_the_images_and_leave_half_to_them(store: fakeredis.FakeRedis) -> None:
    found = worker(store, 4)

    assert begin_all(found, "batch") == 2
    assert begin_all(found, "image") == 2


def test_a_batch_does_not_take_the_only_slot_of_images(store: fakeredis.FakeRedis) -> None:
    found = worker(store, 1)

    assert begin_all(found, "batch") == 1
    assert begin_all(found, "image") == 1
