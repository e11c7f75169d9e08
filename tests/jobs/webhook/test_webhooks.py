"""Webhooks as their receivers see them: signed, delivered at least once, and never sent inside."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from standardwebhooks import WebhookVerificationError

from tests.callers import HELLO
from tests.conftest import Server, provider_settings
from tests.jobs.webhook.receipts import (
    ask,
    job,
    make_due,
    outbox,
    secret,
    verified,
    verified_by_library,
    wait_for_failure,
    wait_until_delivered,
)
from tests.servers.ports import free_port
from tests.servers.receiver import HELD, Receiver
from tests.stack import Stack, fetch, wait_until
from tests.upstream import Upstream


@pytest.fixture(scope="module")
def calling(shared_upstream: Upstream) -> Iterator[Server]:
    """A server whose webhooks may go to this machine."""
    stack = Stack(**provider_settings(shared_upstream), webhook_allow_private=1)
    yield Server(stack)
    stack.close()


@pytest.fixture
def private_stack(fresh_stack: Stack) -> Stack:
    """A stack of a test's own whose webhooks may go to this machine."""
    fresh_stack.settings["WEBHOOK_ALLOW_PRIVATE"] = "1"
    return fresh_stack


def test_a_completed_job_is_told_of_as_its_caller_would_see_it(
    calling: Server, upstream: Upstream, receiver: Receiver
) -> None:
    account = calling.stack.account()

    job_id = ask(calling.url, account, receiver.url("/hook?for=chat"))
    (message,) = receiver.wait(1)

    told = verified(message, secret(account))
    shown = job(calling.url, account, job_id)
    assert shown.pop("result")["choices"]
    assert told == {"type": "job.completed", "timestamp": told["timestamp"], "data": shown}
    assert told["data"]["status"] == "completed"
    ended = datetime.fromisoformat(told["timestamp"])
    assert (int(ended.timestamp()), ended.tzinfo) == (shown["finished_at"], UTC)
    assert message.path == "/hook?for=chat"
    assert message.headers["content-type"] == "application/json"


def test_a_message_is_sent_once_where_it_is_heard(
    calling: Server, upstream: Upstream, receiver: Receiver
) -> None:
    account = calling.stack.account()

    first = ask(calling.url, account, receiver.url())
    wait_until_delivered(calling.stack, first)
    second = ask(calling.url, account, receiver.url())
    wait_until_delivered(calling.stack, second)

    ids = [message.id for message in receiver.messages]
    assert ids == [outbox(calling.stack, job_id)["id"] for job_id in (first, second)]
    kept = outbox(calling.stack, first)
    assert (kept["tries"], kept["next_at"], kept["last_error"]) == (1, None, None)


def test_each_account_signs_with_a_secret_of_its_own_that_no_log_has(
    calling: Server, upstream: Upstream, receiver: Receiver
) -> None:
    mine, others = calling.stack.account(), calling.stack.account()

    ask(calling.url, mine, receiver.url())
    (message,) = receiver.wait(1)

    assert verified(message, secret(mine))
    with pytest.raises(WebhookVerificationError):
        verified_by_library(message, secret(others))
    logs = [process.said() for process in (*calling.stack.webs, *calling.stack.workers)]
    assert not any(secret(mine) in log for log in logs)


def test_a_failed_job_is_told_of_with_its_error(
    calling: Server, upstream: Upstream, receiver: Receiver
) -> None:
    upstream.script(default={"status": 400, "json": {"error": {"message": "No."}}})
    account = calling.stack.account()

    job_id = ask(calling.url, account, receiver.url())
    (message,) = receiver.wait(1)

    told = verified(message, secret(account))
    assert (told["type"], told["data"]["id"]) == ("job.failed", job_id)
    assert told["data"]["error"]["code"] == "invalid_parameter"
    assert told["data"]["credits_consumed"] == 0


def test_a_job_that_is_cancelled_while_it_runs_is_told_of(
    calling: Server, upstream: Upstream, receiver: Receiver
) -> None:
    upstream.script({"delay": 60})
    account = calling.stack.account()
    job_id = ask(calling.url, account, receiver.url())
    upstream.wait(received=1)

    fetch(f"{calling.url}/v1/jobs/{job_id}/cancel", key=account.key, method="POST")
    (message,) = receiver.wait(1)

    told = verified(message, secret(account))
    assert (told["type"], told["data"]["status"]) == ("job.cancelled", "cancelled")
    assert told["data"]["credits_consumed"] >= 1


def test_a_job_that_is_cancelled_before_any_worker_had_it_is_told_of(
    private_stack: Stack, upstream: Upstream, receiver: Receiver
) -> None:
    web = private_stack.web()
    account = private_stack.account()
    job_id = ask(web, account, receiver.url())

    fetch(f"{web}/v1/jobs/{job_id}/cancel", key=account.key, method="POST")
    private_stack.worker()
    (message,) = receiver.wait(1)

    told = verified(message, secret(account))
    assert (told["type"], told["data"]["attempts"]) == ("job.cancelled", 0)


def test_a_job_without_a_webhook_has_no_message(calling: Server, upstream: Upstream) -> None:
    account = calling.stack.account()
    url = f"{calling.url}/v1/chat/completions"

    assert fetch(url, HELLO, key=account.key)[0] == 200
    assert fetch(url, HELLO | {"background": True}, key=account.key)[0] == 202
    wait_until(lambda: calling.stack.unfinished() == 0, "both have ended")

    sql = (
        "SELECT count(*) FROM webhooks w JOIN accounts a ON a.id = w.account_id "
        "WHERE a.name = :name"
    )
    assert calling.stack.query(sql, name=account.name) == [(0,)]


def test_what_a_receiver_missed_while_it_was_down_and_the_sender_killed_is_delivered(
    private_stack: Stack, upstream: Upstream
) -> None:
    web, doomed = private_stack.web(), private_stack.worker()
    account = private_stack.account()
    port = free_port()

    job_id = ask(web, account, f"http://127.0.0.1:{port}/hook")
    wait_for_failure(private_stack, job_id, "not reached")
    with Receiver(port) as receiver:
        receiver.script(503, HELD)
        make_due(private_stack)
        wait_for_failure(private_stack, job_id, "HTTP status 503")
        make_due(private_stack)
        receiver.wait(2)
        doomed.kill()
        private_stack.worker()
        make_due(private_stack)
        wait_until_delivered(private_stack, job_id)
        messages = receiver.messages

    kept = outbox(private_stack, job_id)
    assert (kept["tries"], kept["next_at"], kept["last_error"]) == (4, None, None)
    assert [message.id for message in messages] == [kept["id"]] * 3
    assert len({message.body for message in messages}) == 1
    assert verified(messages[-1], secret(account))["data"]["id"] == job_id


def test_a_receiver_that_is_gone_is_told_no_more_until_it_is_asked_for(
    calling: Server, upstream: Upstream, receiver: Receiver
) -> None:
    receiver.script(410)
    account = calling.stack.account()

    job_id = ask(calling.url, account, receiver.url())
    wait_until(lambda: outbox(calling.stack, job_id)["gave_up_at"], "it is given up")
    given_up = outbox(calling.stack, job_id)
    calling.stack.run("webhooks", "redeliver", given_up["id"])
    wait_until_delivered(calling.stack, job_id)

    assert (given_up["tries"], given_up["next_at"]) == (1, None)
    assert given_up["last_error"] == "The receiver answered with HTTP status 410."
    assert [message.id for message in receiver.messages] == [given_up["id"]] * 2
    kept = outbox(calling.stack, job_id)
    assert (kept["gave_up_at"], kept["last_error"]) == (None, None)


def test_a_redirect_is_not_followed(
    calling: Server, upstream: Upstream, receiver: Receiver
) -> None:
    receiver.script(307, location="/elsewhere")
    account = calling.stack.account()

    job_id = ask(calling.url, account, receiver.url())
    wait_for_failure(calling.stack, job_id, "HTTP status 307")

    assert [message.path for message in receiver.messages] == ["/hook"]
    assert outbox(calling.stack, job_id)["next_at"]


def test_a_receiver_that_says_nothing_holds_up_nobody_else(
    calling: Server, upstream: Upstream, receiver: Receiver
) -> None:
    receiver.script(*[HELD] * 10)
    account, other = calling.stack.account(), calling.stack.account()

    for _ in range(4):
        ask(calling.url, account, receiver.url())
    receiver.wait(2)
    with Receiver() as well:
        ask(calling.url, account, well.url())
        ask(calling.url, other, well.url())
        well.wait(2)

        assert len(receiver.messages) == 2
    receiver.release()


def test_without_leave_nothing_on_this_machine_is_told_anything(
    server: Server, upstream: Upstream, receiver: Receiver
) -> None:
    account = server.stack.account()

    by_address = ask(server.url, account, receiver.url())
    by_name = ask(server.url, account, receiver.url().replace("127.0.0.1", "localhost"))

    for job_id in (by_address, by_name):
        wait_for_failure(server.stack, job_id, "The host has no public address.")
    assert receiver.messages == []


def test_a_worker_told_to_stop_leaves_what_it_is_sending_to_the_next(
    private_stack: Stack, upstream: Upstream, receiver: Receiver
) -> None:
    receiver.script(HELD)
    web, worker = private_stack.web(), private_stack.worker()
    account = private_stack.account()
    job_id = ask(web, account, receiver.url())
    receiver.wait(1)

    worker.terminate()

    assert worker.wait() == 0
    assert outbox(private_stack, job_id)["tries"] == 0
    private_stack.worker()
    wait_until_delivered(private_stack, job_id)
    assert len({message.id for message in receiver.messages}) == 1


def test_two_workers_do_not_send_the_same(
    private_stack: Stack, upstream: Upstream, receiver: Receiver
) -> None:
    web = private_stack.web()
    for _ in range(2):
        private_stack.worker()
    account = private_stack.account()

    jobs = [ask(web, account, receiver.url()) for _ in range(20)]
    for job_id in jobs:
        wait_until_delivered(private_stack, job_id)

    assert len(receiver.messages) == 20
    assert len({message.id for message in receiver.messages}) == 20


NO_ADDRESSES = [
    "",
    "example.com/hook",
    "ftp://example.com/hook",
    "https://",
    "https://user:word@example.com/",
    "https://exa mple.com/",
    "https://example.com/\0",
    "https://example.com\\@127.0.0.1/",
    "http://2130706433/",
    "http://0x7f.1/",
    "http://[::1",
    "http://example.com:0/",
    "http://example.com:99999/",
    "https://example.com/" + "x" * 2000,
]


def test_an_invalid_webhook_url_is_refused(calling: Server, subtests: pytest.Subtests) -> None:
    account = calling.stack.account()

    for url in NO_ADDRESSES:
        with subtests.test(url):
            body = HELLO | {"background": True, "webhook_url": url}

            status, _, answer = fetch(f"{calling.url}/v1/chat/completions", body, key=account.key)

            assert (status, json.loads(answer)["error"]["param"]) == (400, "webhook_url")

    assert account.standing() == (1000, 0)
