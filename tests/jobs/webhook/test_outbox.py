"""The outbox: in it with the job's end, out of it by one at a time, the same on every try."""

import socket
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from sqlalchemy import event, insert, text

import database
from billing import settlement
from billing.outcomes import ChatOutcome, ClaimedJob, UpstreamAttribution
from config.settings import settings
from database import engine
from jobs.lifecycle import store
from jobs.webhook import outbox, sender
from jobs.webhook import receiver as webhook_receiver
from jobs.webhook.sender import DeliveryResult
from jobs.worker import in_flight
from jobs.worker.run_job import RunningJob, run_to_end
from models import webhook
from models.chat import Usage
from models.errors import JobCancelled, ProviderFailed
from models.job import Status
from models.webhook import Webhook
from net import connection as net_connection
from net import public_hosts
from net.call import Call
from tests.job_rows import hold, make_account
from tests.servers.receiver import Receiver

pytestmark = pytest.mark.usefixtures("stored")

URL = "http://127.0.0.1:9/hook"


def queue(account_id: int, url: str | None = URL) -> str:
    """Hold for a chat with a webhook at `url`, and return its id."""
    return hold(account_id, webhook_url=url)


def claim(job_id: str) -> ClaimedJob:
    claimed = store.claim(job_id, "a-worker")
    assert claimed is not None
    return claimed.job


ANSWER = ChatOutcome({"choices": []}, Usage(10, 5), UpstreamAttribution("openai", "gpt-4.1"))
FAILED = ProviderFailed("The provider failed.")
CANCELLED = JobCancelled("The job was cancelled.")


def complete(account_id: int, url: str | None = URL) -> str:
    job_id = queue(account_id, url)
    assert settlement.settle(claim(job_id), ANSWER)
    return job_id


def kept(job_id: str) -> list[Any]:
    return outbox.listing(10, job_id=job_id)


def taken(account_id: int | None = None, url: str = URL) -> Any:
    """Return a message that a worker has just taken."""
    # A message of an earlier case may be due again by now.
    change("UPDATE webhooks SET next_at = NULL")
    complete(account_id or make_account(), url)
    (message,) = outbox.claim([])
    return message


def change(sql: str) -> None:
    database.run(lambda connection: connection.execute(text(sql)) and None)


class Statements:
    """What the database is asked while a block runs."""

    def __enter__(self) -> list[str]:
        self.said: list[str] = []
        event.listen(engine.engine(), "before_cursor_execute", self._hear)
        return self.said

    def __exit__(self, *_: object) -> None:
        event.remove(engine.engine(), "before_cursor_execute", self._hear)

    def _hear(self, _: Any, __: Any, statement: str, *more: Any) -> None:
        self.said.append(statement)


# ---- Into it -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "kind"),
    [
        (lambda mine: settlement.settle(mine, ANSWER), "job.completed"),
        (lambda mine: settlement.fail(mine, FAILED), "job.failed"),
        (lambda mine: settlement.fail(mine, CANCELLED, status=Status.CANCELLED), "job.cancelled"),
        (lambda mine: settlement.settle_cancelled(mine, ANSWER, CANCELLED), "job.cancelled"),
        (lambda mine: settlement.fail(mine, FAILED, status=Status.EXPIRED), "job.expired"),
    ],
)
def test_whatever_ends_a_claimed_job_puts_that_into_the_outbox(end: Any, kind: str) -> None:
    account = make_account()
    job_id = queue(account)
    mine = claim(job_id)

    assert end(mine).has_webhook
    assert end(mine) is None

    (message,) = kept(job_id)
    assert (message.type, message.url, message.tries) == (kind, URL, 0)
    assert (message.account_id, message.host) == (account, "127.0.0.1:9")


@pytest.mark.parametrize("status", [Status.FAILED, Status.CANCELLED, Status.EXPIRED])
def test_whatever_ends_an_unclaimed_job_puts_that_into_the_outbox(status: Status) -> None:
    job_id = queue(make_account())

    assert settlement.end_unclaimed(job_id, status, FAILED)
    assert not settlement.end_unclaimed(job_id, status, FAILED)

    assert [message.type for message in kept(job_id)] == [f"job.{status}"]


def test_a_stale_attempt_puts_nothing_into_the_outbox() -> None:
    job_id = queue(make_account())
    stale = claim(job_id)
    store.hand_back(stale, [])
    claim(job_id)

    assert settlement.settle(stale, ANSWER) is None
    assert settlement.fail(stale, FAILED) is None

    assert kept(job_id) == []


def test_what_ends_a_job_and_is_undone_leaves_nothing_there() -> None:
    job_id = queue(make_account())
    mine = claim(job_id)
    change(f"INSERT INTO results (job_id, body, expires_at) VALUES ('{job_id}', '', 0)")

    with pytest.raises(Exception, match="results"):
        settlement.settle(mine, ANSWER)

    found = store.find(job_id)
    assert found is not None and found.status == Status.IN_PROGRESS
    assert kept(job_id) == []


def test_a_job_without_a_webhook_costs_no_statement_more() -> None:
    account = make_account()
    without, with_one = claim(queue(account, None)), claim(queue(account))
    settlement.settle(claim(queue(account)), ANSWER)  # What is cached is cached.

    with Statements() as fewer:
        settled = settlement.settle(without, ANSWER)
    with Statements() as more:
        settlement.settle(with_one, ANSWER)

    assert settled is not None and not settled.has_webhook
    assert len(more) == len(fewer) + 1
    assert not any("webhooks" in statement for statement in fewer)


@pytest.mark.parametrize("url", [URL, None])
def test_a_worker_that_ends_a_job_with_a_webhook_does_not_wait_for_its_next_look(
    url: str | None,
) -> None:
    job_id = queue(make_account(), url)
    claimed = store.claim(job_id, "a-worker")
    assert claimed is not None
    in_flight.webhook_due.clear()

    run_to_end(RunningJob(claimed, Call(60)), lambda: ANSWER)

    assert in_flight.webhook_due.is_set() == (url is not None)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://Example.com/hook", "example.com"),
        ("http://example.com:8080?a=//b", "example.com:8080"),
        ("http://[2001:db8::1]:80#x", "[2001:db8::1]:80"),
        ("http://example.com", "example.com"),
        ("", ""),
    ],
)
def test_receivers_are_told_apart_by_host_and_port(url: str, host: str) -> None:
    assert webhook.host_of(url) == host


# ---- Out of it -----------------------------------------------------------------------------------


def test_a_message_is_taken_once_and_again_when_its_worker_is_taken_for_dead() -> None:
    first = taken()

    assert outbox.claim([]) == []
    change(f"UPDATE webhooks SET next_at = next_at - {outbox.CLAIM_SECONDS}")
    (second,) = outbox.claim([])

    assert (second.id, first.tries, second.tries) == (first.id, 1, 2)


def test_who_take_at_the_same_time_take_different_messages() -> None:
    for _ in range(5):
        complete(make_account())
    together = threading.Barrier(4)

    def take(_: int) -> list[str]:
        together.wait()
        return [message.id for message in outbox.claim([])]

    with ThreadPoolExecutor(4) as threads:
        for _ in range(20):
            change("UPDATE webhooks SET next_at = 0")
            found = [one for ids in threads.map(take, range(4)) for one in ids]
            assert Counter(Counter(found).values()) == {1: 5}


def waiting(account_id: int, host: str, number: int = 0) -> Any:
    return SimpleNamespace(id=f"{account_id} {host} {number}", account_id=account_id, host=host)


def test_a_receiver_gets_a_few_at_a_time_and_so_does_an_account() -> None:
    due = [waiting(1, host, number) for host in "abc" for number in range(5)]

    chosen = outbox.choose([*due, waiting(2, "a")], [])

    assert chosen == ["1 a 0", "1 a 1", "1 b 0", "2 a 0"]


def test_what_is_being_sent_counts() -> None:
    sending = [waiting(1, "a", number) for number in range(outbox.MAX_PER_RECEIVER)]

    assert outbox.choose([waiting(1, "a", 7), waiting(1, "b")], sending) == ["1 b 0"]


def test_a_worker_sends_so_many_at_a_time() -> None:
    due = [waiting(number, "a") for number in range(outbox.MAX_SENDING + 10)]

    assert len(outbox.choose(due, [])) == outbox.MAX_SENDING
    assert outbox.choose(due, due[: outbox.MAX_SENDING]) == []


def test_a_receivers_many_messages_hide_nobody_elses() -> None:
    flooded, other = make_account(), make_account()
    complete(flooded)
    flood(outbox.PAGE_SIZE + 10)
    theirs = complete(other)

    first = outbox.claim([])

    assert Counter(message.account_id for message in first) == {
        flooded: outbox.MAX_PER_RECEIVER,
        other: 1,
    }
    assert theirs in [message.job_id for message in first]
    assert outbox.claim(first) == []


def test_an_accounts_many_receivers_hide_nobody_elses() -> None:
    flooded, other = make_account(), make_account()
    complete(flooded)
    flood(outbox.PAGE_SIZE + 10, "http://host-{}.example/hook")
    theirs = complete(other)

    first = outbox.claim([])

    assert Counter(message.account_id for message in first) == {
        flooded: outbox.MAX_PER_ACCOUNT,
        other: 1,
    }
    assert theirs in [message.job_id for message in first]
    assert outbox.claim(first) == []


def flood(count: int, url: str = URL) -> None:
    """Put so many more of the one message there is into the outbox, for `url` with a number."""
    (message,) = outbox.listing(1)
    urls = [url.format(number) for number in range(count)]
    more = [
        {name: getattr(message, name) for name in Webhook.model_fields}
        | {"id": webhook.make_id(), "url": each, "host": webhook.host_of(each)}
        for each in urls
    ]
    database.run(lambda connection: connection.execute(insert(Webhook), more) and None)


# ---- What becomes of it --------------------------------------------------------------------------


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


# ---- Where it goes -------------------------------------------------------------------------------


class Names:
    """The names that are known, and how often each was looked up."""

    def __init__(self) -> None:
        self.addresses: dict[str, list[list[str]]] = {}
        self.asked: list[str] = []
        self._real = socket.getaddrinfo

    def look_up(self, host: str, port: int, *args: Any, **kwargs: Any) -> list[Any]:
        if host not in self.addresses:
            return self._real(host, port, *args, **kwargs)
        self.asked.append(host)
        answers = self.addresses[host]
        found = answers.pop(0) if len(answers) > 1 else answers[0]
        return [line for one in found for line in self._real(one, port, *args, **kwargs)]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    found = Names()
    monkeypatch.setattr(socket, "getaddrinfo", found.look_up)
    return found


@pytest.fixture
def local(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let 127.0.0.1 be a public address, and no other."""
    monkeypatch.setattr(public_hosts, "is_allowed", lambda address: str(address) == "127.0.0.1")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as made:
        yield made


def send(url: str, call: Call | None = None) -> DeliveryResult:
    return sender.send(call or Call(60), taken(url=url))


def test_the_connection_goes_to_the_address_that_was_checked(
    names: Names, local: None, receiver: Receiver
) -> None:
    names.addresses["hooks.example"] = [["127.0.0.1"], ["10.0.0.1"]]

    found = send(f"http://hooks.example:{receiver.port}/hook")

    assert found.status == 200
    assert names.asked == ["hooks.example"]
    (message,) = receiver.messages
    assert message.headers["host"] == f"hooks.example:{receiver.port}"


def test_one_address_inside_is_enough_to_be_refused(
    names: Names, local: None, receiver: Receiver
) -> None:
    names.addresses["hooks.example"] = [["127.0.0.1", "10.0.0.1"]]

    found = send(f"http://hooks.example:{receiver.port}/hook")

    assert (found.status, found.reason) == (None, webhook_receiver.NOT_PUBLIC)
    assert receiver.messages == []


def test_no_webhook_goes_to_a_private_address(names: Names, subtests: pytest.Subtests) -> None:
    inside = ["10.1.2.3", "127.0.0.1", "169.254.169.254", "192.168.0.1", "::1", "fe80::1"]

    for address in [*inside, "fd00::1"]:
        with subtests.test(address):
            names.addresses["hooks.example"] = [[address]]

            assert send("http://hooks.example/hook").reason == webhook_receiver.NOT_PUBLIC


def test_an_operator_may_let_them_go_inside(
    monkeypatch: pytest.MonkeyPatch, receiver: Receiver
) -> None:
    monkeypatch.setattr(settings, "webhook_allow_private", True)

    assert send(receiver.url()).status == 200


def test_a_proxy_of_the_environment_is_not_used(
    monkeypatch: pytest.MonkeyPatch, local: None, receiver: Receiver
) -> None:
    net_connection.forget_connections()
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "")

    assert send(receiver.url()).status == 200
    net_connection.forget_connections()


def test_a_host_that_is_not_there_and_one_that_does_not_listen_are_told_apart(
    local: None,
) -> None:
    assert send("http://nobody.invalid/hook").reason == webhook_receiver.NOT_PUBLIC
    assert send("http://127.0.0.1:1/hook").reason.startswith(sender.UNREACHABLE)


def test_a_receiver_that_says_nothing_is_left(monkeypatch: pytest.MonkeyPatch, local: None) -> None:
    monkeypatch.setattr(sender, "SEND_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]

        assert send(f"http://127.0.0.1:{port}/hook") == DeliveryResult(None, sender.TIMED_OUT)


def test_a_receiver_may_ask_for_a_pause_up_to_a_limit(local: None, receiver: Receiver) -> None:
    receiver.script(503, Retry_After="120")
    receiver.script(429, Retry_After="999999")
    receiver.script(500, Retry_After="soon")

    pauses = [send(receiver.url()).retry_after for _ in range(3)]

    assert pauses == [120, sender.MAX_RETRY_AFTER_SECONDS, 0]


def test_an_abort_ends_a_try_with_its_reason(local: None) -> None:
    call = Call(60)
    call.abort(CANCELLED)

    with pytest.raises(JobCancelled):
        send(URL, call)
