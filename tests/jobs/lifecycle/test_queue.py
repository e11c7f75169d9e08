"""What is put in Redis for a job: its id in RQ's queue, its body beside it, and nothing else."""

from collections.abc import Iterator

import fakeredis
import orjson
import pytest
from rq import Queue
from rq.job import Job
from rq.serializers import JSONSerializer

from jobs.lifecycle import bodies, finish
from jobs.lifecycle import queue as lifecycle_queue
from jobs.streaming.messages import Ended, Source
from models.job import BodyAt


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[fakeredis.FakeRedis]:
    """A Redis that is not one, behind the named seams."""
    store = fakeredis.FakeRedis()
    queue = Queue("chat", connection=store, serializer=JSONSerializer)
    monkeypatch.setattr(lifecycle_queue, "connection", lambda: store)
    monkeypatch.setattr(bodies, "connection", lambda: store)
    monkeypatch.setattr(lifecycle_queue, "queue", lambda kind: queue)
    yield store
    store.close()


def test_a_job_carries_its_id_and_the_body_waits_beside_it(store: fakeredis.FakeRedis) -> None:
    lifecycle_queue.enqueue("job_1", "chat", b'{"model": "gpt-4"}')

    job = Job.fetch("job_1", connection=store, serializer=JSONSerializer)
    assert lifecycle_queue.queue("chat").get_job_ids() == ["job_1"]
    assert (job.func_name, job.args, job.kwargs) == ("jobs.chat.run", ["job_1"], {})
    assert orjson.loads(job.data) == ["jobs.chat.run", None, ["job_1"], {}]
    assert bodies.load("job_1", BodyAt.REDIS) == b'{"model": "gpt-4"}'


def test_a_job_that_is_tried_again_goes_to_the_front(store: fakeredis.FakeRedis) -> None:
    lifecycle_queue.enqueue("job_1", "chat", b"{}")
    lifecycle_queue.enqueue("job_2", "chat", b"{}")

    lifecycle_queue.enqueue_again("job_3", "chat")

    assert lifecycle_queue.queue("chat").get_job_ids() == ["job_3", "job_1", "job_2"]


def test_the_end_of_a_job_is_announced_and_its_body_deleted(store: fakeredis.FakeRedis) -> None:
    lifecycle_queue.enqueue("job_1", "chat", b"{}")
    subscription = store.pubsub()
    subscription.subscribe("likedo:job:job_1")
    subscription.get_message()
    ended = Ended("completed", Source("openai", "gpt-4.1", 1), 1, 99, body=b'{"id": "x"}')

    with store.pipeline(transaction=False) as pipeline:
        finish.announce(pipeline, "job_1", ended)
        pipeline.execute()

    message = subscription.get_message()
    subscription.close()
    assert message is not None and Ended.decode(message["data"]) == ended
    assert bodies.load("job_1", BodyAt.REDIS) is None


def test_a_large_answer_does_not_travel_with_the_notification() -> None:
    ended = Ended("completed", Source("openai", "gpt-4.1", 1), 1, 99, body=b"x" * 100_000)

    message = Ended.decode(ended.encode())

    assert message.body is None
    assert (message.status, message.charged) == ("completed", 1)
