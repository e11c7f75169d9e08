"""Where webhooks go: to addresses that were checked, and for no longer than they may."""

import socket
from typing import Any

import pytest

from config.settings import settings
from jobs.webhook import receiver as webhook_receiver
from jobs.webhook import sender
from jobs.webhook.sender import DeliveryResult
from models.errors import JobCancelled
from net import connection as net_connection
from net import public_hosts
from net.call import Call
from tests.jobs.webhook.outgoing import CANCELLED, URL, taken
from tests.servers.receiver import Receiver

pytestmark = pytest.mark.usefixtures("stored")


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
    net_connection.close_idle_connections()
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "")

    assert send(receiver.url()).status == 200
    net_connection.close_idle_connections()


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
