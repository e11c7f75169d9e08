"""What batches cost, when they are cancelled or out of time or retried, and who waits for them."""

import json

import openai
import pytest

from tests.batches import ENDPOINT, Batches, chats, counts, file_of, the_books_are_right
from tests.callers import HELLO
from tests.conftest import Server
from tests.stack import Account, fetch, wait_until
from tests.upstream import Upstream


def test_lines_that_the_balance_no_longer_affords_fail(server: Server, upstream: Upstream) -> None:
    """Each line may cost 3 credits and costs 1: as long as there are 3, another one begins."""
    account = server.stack.account(credits=7)
    batches = Batches(server.url, account)
    dear = [each | {"body": each["body"] | {"max_tokens": 900}} for each in chats(12)]

    batch = batches.run(dear)

    assert (batch.status, counts(batch)) == ("completed", (12, 5, 7))
    assert [each["custom_id"] for each in batches.output(batch)] == [
        f"line-{number}" for number in range(5)
    ]
    errors = batches.errors(batch)
    assert [each["custom_id"] for each in errors] == [f"line-{number}" for number in range(5, 12)]
    assert {each["error"]["code"] for each in errors} == {"insufficient_credits"}
    assert {each["response"] for each in errors} == {None}
    assert account.standing() == (2, 0)
    the_books_are_right(account, 7)
    batches.close()


def test_a_line_waits_for_credits_that_other_calls_hold(server: Server, upstream: Upstream) -> None:
    upstream.script(default={"delay": 0.5})
    account = server.stack.account(credits=20)
    batches = Batches(server.url, account)
    dear = [each | {"body": each["body"] | {"max_tokens": 5000}} for each in chats(4)]

    batch = batches.run(dear)

    # Each holds 16 of the 20 credits, so they run one after the other, none with less output.
    assert (batch.status, counts(batch)) == ("completed", (4, 4, 0))
    assert {call["body"]["max_tokens"] for call in upstream.calls()} == {5000}
    assert account.standing() == (16, 0)
    the_books_are_right(account, 20)
    batches.close()


def test_a_cancelled_batch_ends_what_runs_and_begins_nothing_more(
    batches: Batches, account: Account, upstream: Upstream
) -> None:
    upstream.script(*[{}] * 3, default={"delay": 60})
    batch = batches.create(chats(150))
    wait_until(lambda: counts(batches.now(batch))[1] == 3, "three lines have ended")
    upstream.wait(received=50)

    asked = batches.sdk.batches.cancel(batch.id)
    again = batches.sdk.batches.cancel(batch.id)
    batch = batches.until(batch, "cancelled")
    later = batches.sdk.batches.cancel(batch.id)

    assert (asked.status, again.status) == ("cancelling", "cancelling")
    assert later.status == "cancelled" and later.cancelled_at and later.cancelling_at
    assert counts(batch) == (150, 3, 147)
    assert len(batches.output(batch)) == 3
    errors = batches.errors(batch)
    never_run = [each for each in errors if each["error"]]
    stopped = [each for each in errors if each["response"]]
    assert {each["error"]["code"] for each in never_run} == {"batch_cancelled"}
    assert {each["response"]["status_code"] for each in stopped} == {409}
    assert len(never_run) + len(stopped) == 147 and len(never_run) >= 47
    # What runs when it is cancelled pays for its prompt.
    assert {each["response"]["body"]["credits_consumed"] for each in stopped} == {1}
    the_books_are_right(account, 10_000)


def test_a_batch_that_is_over_cannot_be_cancelled(batches: Batches, upstream: Upstream) -> None:
    batch = batches.run(chats(1))

    with pytest.raises(openai.ConflictError) as raised:
        batches.sdk.batches.cancel(batch.id)

    assert raised.value.code == "job_already_finished"


def test_a_batch_whose_day_is_over_lets_end_what_runs(
    server: Server, batches: Batches, account: Account, upstream: Upstream
) -> None:
    upstream.script(default={"delay": 2})
    batch = batches.create(chats(150))
    upstream.wait(received=20)

    server.stack.change(f"UPDATE batches SET expires_at = 1 WHERE id = '{batch.id}'")
    batch = batches.until(batch, "expired")

    total, completed, failed = counts(batch)
    assert (total, completed + failed) == (150, 150) and completed >= 20
    assert batch.expired_at and len(batches.output(batch)) == completed
    errors = batches.errors(batch)
    assert len(errors) == failed > 0
    assert {each["error"]["code"] for each in errors} == {"batch_expired"}
    assert account.standing() == (10_000 - completed, 0)
    the_books_are_right(account, 10_000)


def test_a_retry_makes_no_second_batch(
    server: Server, batches: Batches, account: Account, upstream: Upstream
) -> None:
    file = batches.sdk.files.create(file=("in.jsonl", file_of(chats(1))), purpose="batch")
    asked = {"input_file_id": file.id, "endpoint": ENDPOINT, "completion_window": "24h"}

    def create(**headers: str) -> tuple[str, str | None]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        _, said, body = fetch(f"{server.api}/batches", asked, key=account.key, headers=named)
        return json.loads(body)["id"], said.get("idempotent-replayed")

    first, _ = create()
    joined, said = create(x_stainless_retry_count="1")
    forged, _ = create(x_stainless_retry_count="1")
    named, _ = create(idempotency_key="mine")
    repeated, _ = create(idempotency_key="mine")

    assert (joined, said) == (first, "true")
    assert len({first, forged, named}) == 3
    assert repeated == named
    other = fetch(
        f"{server.api}/batches",
        asked | {"metadata": {"a": "b"}},
        key=account.key,
        headers={"idempotency-key": "mine"},
    )
    assert (other[0], json.loads(other[2])["error"]["code"]) == (422, "idempotency_key_reused")


def test_a_batch_counts_once_towards_the_hour_and_so_does_its_file(
    server: Server, upstream: Upstream
) -> None:
    account = server.stack.account(plan="free")
    batches = Batches(server.url, account)

    batches.run(chats(20))
    _, headers, _ = fetch(f"{server.api}/credits", key=account.key)

    assert headers["x-ratelimit-remaining-requests"] == "198"
    batches.close()


def test_batch_lines_do_not_delay_chats(
    server: Server, batches: Batches, account: Account, upstream: Upstream
) -> None:
    """An account may run some jobs at a time, and a hundred lines beside them."""
    upstream.script(default={"delay": 1})
    batch = batches.create(chats(300))
    upstream.wait(received=50)

    upstream.script({"match": "chat"})
    status, headers, _ = fetch(f"{server.api}/chat/completions", HELLO, key=account.key)

    assert status == 200
    (queued,) = server.stack.query(
        "SELECT enqueued_at FROM jobs WHERE id = :id", id=headers["x-job-id"]
    )
    assert queued[0] is not None
    assert batches.until(batch, "completed").status == "completed"
