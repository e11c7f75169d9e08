"""What becomes of a message: delivered, tried again, given up, the same on every try."""

import orjson
import pytest

from jobs.webhook import outbox, sender
from jobs.webhook.sender import DeliveryResult
from tests.jobs.webhook.outgoing import change, kept, taken

pytestmark = pytest.mark.usefixtures("stored")


def heard(status: int | None, retry_after: float = 0) -> DeliveryResult:
    return DeliveryResult(status, "Why.", retry_after)


def test_a_failed_try_is_followed_by_another_after_a_pause() -> None:
    message = taken()

    sender.record(message, heard(500))

    (now,) = kept(message.job_id)
    pause = sender.BACKOFF_SECONDS[0]
    assert now.next_at < message.next_at - outbox.CLAIM_SECONDS + 2 * pause + 30
    assert (now.delivered_at, now.gave_up_at, now.last_error) == (None, None, "Why.")
    assert outbox.claim([]) == []


def test_tries_go_on_for_a_day_and_are_given_up_then() -> None:
    message = taken()

    for tries in range(1, len(sender.BACKOFF_SECONDS) + 1):
        sender.record(message, heard(None))
        assert [now.gave_up_at for now in kept(message.job_id)] == [None]
        change("UPDATE webhooks SET next_at = 0")
        (message,) = outbox.claim([])
        assert message.tries == tries + 1
    sender.record(message, heard(None))

    (now,) = kept(message.job_id)
    assert now.gave_up_at and now.next_at is None
    assert 0.9 < sum(sender.BACKOFF_SECONDS) / 86400 < 1.1


def test_any_2xx_counts_as_delivered(subtests: pytest.Subtests) -> None:
    for status in (200, 202, 204, 299):
        with subtests.test(status=status):
            message = taken()

            sender.record(message, heard(status))

            (now,) = kept(message.job_id)
            assert now.delivered_at and now.next_at is None


def test_anything_else_is_tried_again(subtests: pytest.Subtests) -> None:
    for status in (None, 100, 199, 300, 302, 400, 401, 404, 409, 429, 500, 503):
        with subtests.test(status=status):
            message = taken()

            sender.record(message, heard(status))

            (now,) = kept(message.job_id)
            assert now.next_at and not now.delivered_at and not now.gave_up_at


def test_a_pause_is_what_the_receiver_asks_for_where_that_is_more() -> None:
    first = sender.BACKOFF_SECONDS[0]

    assert sender.pause(1, 0) == pytest.approx(first, rel=sender.JITTER + 0.001)
    assert sender.pause(1, 1) > 1
    assert sender.pause(1, 120) == 120
    assert len({sender.pause(3, 0) for _ in range(10)}) > 1


def test_a_worker_that_comes_back_from_the_dead_changes_nothing() -> None:
    late = taken()
    change("UPDATE webhooks SET next_at = 0")
    (message,) = outbox.claim([])
    sender.record(message, heard(200))

    sender.record(late, heard(500))
    sender.record(late, heard(410))
    outbox.hand_back(late)

    (now,) = kept(late.job_id)
    assert now.delivered_at and now.next_at is None and now.last_error is None


def test_what_is_handed_back_is_due_at_once_and_was_no_try() -> None:
    message = taken()

    outbox.hand_back(message)

    (again,) = outbox.claim([])
    assert (again.id, again.tries) == (message.id, 1)


def test_what_is_to_be_delivered_again_has_a_day_of_its_own() -> None:
    message = taken()
    sender.record(message, heard(410))
    assert outbox.claim([]) == []

    assert outbox.redeliver(message.id)

    (again,) = outbox.claim([])
    assert (again.id, again.tries, again.gave_up_at) == (message.id, 1, None)
    assert not outbox.redeliver("msg_nobodys")


def test_every_try_says_the_same_whatever_becomes_of_the_job() -> None:
    message = taken()
    first = outbox.body_of(message)

    change("UPDATE jobs SET model = 'another'")
    change("UPDATE webhooks SET next_at = 0")
    (again,) = outbox.claim([])

    # Also of two workers that make it at the same time.
    assert outbox.body_of(again) == outbox.body_of(message) == first
    told = orjson.loads(first)
    assert (told["type"], told["data"]["model"]) == ("job.completed", "gpt-4")
    assert "result" not in told["data"]
