"""A fetch from an untrusted server ended from outside."""

import socket
import subprocess
import sys

import pytest

from net.call import Call
from tests.net.untrusted.hosts import (
    CANCELLED,
    PATIENCE_SECONDS,
    PNG,
    SLOW,
    Host,
    Names,
    Outcome,
    chunked,
    fetch,
    image,
    redirect,
    refusal,
)
from tests.stack import wait_until
from tests.upstream import ROOT, Step, Upstream


@pytest.mark.parametrize("step", SLOW)
def test_an_abort_from_another_thread_ends_a_fetch(
    upstream: Upstream, local: None, step: Step
) -> None:
    upstream.script(step)
    outcome = Outcome(Call(60), upstream.url)
    upstream.wait(received=1)

    assert outcome.after_abort() is CANCELLED
    upstream.wait(aborted=1)


def test_an_abort_ends_a_fetch_behind_a_redirect(upstream: Upstream, local: None) -> None:
    upstream.script(redirect("/b"), {"delay": 60})
    outcome = Outcome(Call(60), upstream.url)
    upstream.wait(received=2)

    assert outcome.after_abort() is CANCELLED
    upstream.wait(aborted=1)


def test_an_abort_ends_a_handshake(local: None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        outcome = Outcome(Call(60), f"https://127.0.0.1:{listener.getsockname()[1]}/")
        connection, _ = listener.accept()
        with connection:
            connection.recv(1)

            assert outcome.after_abort() is CANCELLED


def test_an_abort_ends_a_look_up(names: Names) -> None:
    outcome = Outcome(Call(60), "http://silent.example/")
    names.begun.wait()

    assert outcome.after_abort() is CANCELLED


def test_a_call_goes_on_after_an_image_that_did_not_come(
    upstream: Upstream, local: None, hurried: None
) -> None:
    call = Call(60)
    upstream.script({"delay": 60}, image())

    refusal(upstream.url, call)

    assert fetch(upstream.url, call).data == PNG
    call.check()


def in_a_greenlet(host: Host, url: str, way: str) -> str:
    """Fetch in a process of gevent's, and return what came of it, by its class."""
    command = [sys.executable, "-c", GREENLET, url, way]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, text=True, **pipes) as child:
        if way == "abort":
            wait_until(lambda: host.sent > 5, "it has begun to read")
        said, errors = child.communicate("Go on.", timeout=PATIENCE_SECONDS)
    assert errors == ""
    return said.strip()


def test_a_greenlet_fetches_as_a_thread_does() -> None:
    with Host(chunked(PNG) + b"\r\n") as host:
        assert in_a_greenlet(host, host.url(), "fetch") == "Media"


@pytest.mark.parametrize(("way", "error"), [("abort", "JobCancelled"), ("time", "InvalidRequest")])
def test_a_greenlet_ends_in_a_handshake_that_trickles(way: str, error: str) -> None:
    """A greenlet waits for each byte of it with a time-out that begins anew."""
    # The head of a record of 16 KiB.
    with Host(b"\x16\x03\x03\x40\x00" + bytes(2000), gap=0.02) as host:
        assert in_a_greenlet(host, host.url().replace("http:", "https:"), way) == error


GREENLET = """
from gevent import monkey
monkey.patch_all()
import select
import sys
import gevent
from models.errors import JobCancelled, LikeDoError
from net import public_hosts
from net.call import Call
from providers.wire import caller_images
from providers.wire.image_room import Room

public_hosts.is_allowed = lambda address: True
if sys.argv[2] == "time":
    caller_images.FETCH_SECONDS = 0.5

def run(call):
    try:
        return caller_images.fetch(Room(call), sys.argv[1], "param")
    except LikeDoError as error:
        return error

call = Call(60)
greenlet = gevent.spawn(run, call)
if sys.argv[2] == "abort":
    select.select([sys.stdin], [], [])
    call.abort(JobCancelled("Cancelled."))
print(type(greenlet.get()).__name__)
"""
