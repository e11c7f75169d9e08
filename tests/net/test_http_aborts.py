"""One request ended from outside at any moment."""

import socket
import subprocess
import sys
import threading
from contextlib import closing

import pytest

from models.errors import JobCancelled, ProviderTimeout
from net import connection as net_connection
from net.call import Call
from tests.net.asking import CANCELLED, PATH, Outcome, port_of, post
from tests.upstream import ROOT, Upstream


def test_a_call_aborted_beforehand_sends_nothing(upstream: Upstream) -> None:
    call = Call(20)
    call.abort(CANCELLED)

    with pytest.raises(JobCancelled) as raised:
        post(upstream, call)

    assert raised.value is CANCELLED
    assert upstream.counts()["received"] == 0


def test_the_first_reason_stays() -> None:
    call = Call(20)
    call.abort(CANCELLED)
    call.abort(ProviderTimeout("Too late."))

    with pytest.raises(JobCancelled):
        call.check()


@pytest.mark.parametrize(
    "step",
    [
        pytest.param({"delay": 60}, id="before-the-headers"),
        pytest.param({"body_delay": 60}, id="after-the-headers"),
        pytest.param({"dribble": " ", "gap": 0.01}, id="while-reading"),
        pytest.param({"body_delay": 60, "close": "announced"}, id="on-a-connection-let-go-of"),
    ],
)
@pytest.mark.parametrize("reused", [False, True])
def test_an_abort_ends_a_waiting_call_with_its_reason(
    upstream: Upstream, step: dict[str, object], reused: bool
) -> None:
    net_connection.close_idle_connections()
    if reused:
        post(upstream)
    upstream.script(step)
    outcome = Outcome(Call(60), upstream.url + PATH)
    upstream.wait(received=1 + reused)

    error = outcome.after_abort()

    assert error is CANCELLED
    upstream.wait(aborted=1)


def test_an_abort_ends_a_handshake(silent: socket.socket) -> None:
    outcome = Outcome(Call(60), f"https://127.0.0.1:{port_of(silent)}{PATH}")
    connection, _ = silent.accept()

    with closing(connection):
        connection.recv(1)

        assert outcome.after_abort() is CANCELLED


def test_an_abort_ends_a_connection_that_nobody_accepts() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, closing(socket.socket()) as one:
        one.connect(full.getsockname())
        reached = threading.Event()
        call = AbortableConnection(60, reached)
        outcome = Outcome(call, f"http://127.0.0.1:{port_of(full)}{PATH}")
        reached.wait()

        assert outcome.after_abort() is CANCELLED


class AbortableConnection(Call):
    """A call that tells when its first socket is about to connect."""

    def __init__(self, seconds: float, reached: threading.Event) -> None:
        super().__init__(seconds)
        self._reached, self._checks = reached, 0

    def check(self) -> None:
        super().check()
        # The first check is before the connection, the second has its socket in hand.
        self._checks += 1
        if self._checks == 2:
            self._reached.set()


def test_many_requests_of_one_call_end_together(upstream: Upstream) -> None:
    upstream.script(default={"delay": 60})
    call = Call(60)
    outcomes = [Outcome(call, upstream.url + PATH) for _ in range(5)]
    upstream.wait(received=5)

    call.abort(CANCELLED)

    assert [outcome.after_abort() for outcome in outcomes] == [CANCELLED] * 5
    upstream.wait(aborted=5)


def test_an_abort_of_one_call_leaves_the_next_on_its_connection_alone(upstream: Upstream) -> None:
    first = Call(20)
    post(upstream, first)

    upstream.script({"body_delay": 0.05})
    outcome = Outcome(Call(20), upstream.url + PATH)
    upstream.wait(received=2)
    first.abort(CANCELLED)

    assert outcome.at_last() is None


def test_waiting_ends_with_the_abort() -> None:
    call = Call(60)
    threading.Thread(target=call.abort, args=(CANCELLED,)).start()

    with pytest.raises(JobCancelled):
        call.wait(60)


def test_waiting_ends_with_the_deadline() -> None:
    with pytest.raises(ProviderTimeout):
        Call(0.01).wait(60)


@pytest.mark.parametrize(
    ("way", "step"),
    [("post", {"delay": 60}), ("listen", {"events": ["a", "b"], "gap": 60})],
    ids=["whole", "streamed"],
)
def test_greenlets_are_aborted_as_threads_are(
    upstream: Upstream, way: str, step: dict[str, object]
) -> None:
    upstream.script(default=step)

    done = subprocess.run(
        [sys.executable, "-c", GREENLETS, upstream.url, way],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )

    assert (done.stdout, done.stderr, done.returncode) == ("20 cancelled\n", "", 0)
    upstream.wait(aborted=20)


GREENLETS = """
from gevent import monkey
monkey.patch_all()
import sys
import urllib.request
import gevent
from models.errors import JobCancelled
from net.call import Call
from net.http import post, stream

def listen(*asked):
    with stream(*asked) as answer:
        list(answer.events())

def run(call):
    try:
        globals()[sys.argv[2]](call, sys.argv[1] + "/v1/chat/completions", {}, {})
    except JobCancelled as error:
        return error

calls = [Call(60) for _ in range(20)]
greenlets = [gevent.spawn(run, call) for call in calls]
reasons = [JobCancelled(str(place)) for place in range(20)]
urllib.request.urlopen(sys.argv[1] + "/__calls?bare=1&received=20").close()
for call, reason in zip(calls, reasons):
    call.abort(reason)
gevent.joinall(greenlets)
print(sum(greenlet.value is reason for greenlet, reason in zip(greenlets, reasons)), "cancelled")
"""
