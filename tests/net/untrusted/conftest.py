"""What the tests of untrusted servers change of the world."""

import socket
from collections.abc import Iterator

import pytest

from net import public_hosts
from providers.wire import caller_images
from tests.net.untrusted.hosts import Names


@pytest.fixture
def local(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let 127.0.0.1 be a public address, and no other."""
    monkeypatch.setattr(public_hosts, "is_allowed", lambda address: str(address) == "127.0.0.1")


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the 20 seconds be one."""
    monkeypatch.setattr(caller_images, "FETCH_SECONDS", 1.0)


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[Names]:
    """The servers of names, which are the world's."""
    found = Names()
    monkeypatch.setattr(socket, "getaddrinfo", found.look_up)
    yield found
    found.end.set()
