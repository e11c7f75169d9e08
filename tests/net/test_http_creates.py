"""What is created is asked for once, and an error says whether anything ran."""

import socket
from contextlib import closing

import pytest

from models.errors import JobCancelled, LikeDoError, ProviderFailed, ProviderTimeout
from net import connection as net_connection
from net import http
from net.answer import Response
from net.call import Call
from tests.net.asking import CANCELLED, PATH, Outcome, port_of, post
from tests.upstream import Upstream


def create(call: Call, url: str, headers: object = None, payload: object = None) -> Response:
    with http.create(call, url, {"X-A": "b"}, b"a=1", "application/x-form") as answer:
        return answer.whole()


def nothing_ran(upstream: Upstream, call: Call | None = None) -> bool:
    """Say what the error of a create tells of it."""
    with pytest.raises(LikeDoError) as raised:
        create(call or Call(20), upstream.url + PATH)
    return raised.value.nothing_ran


def test_what_is_created_goes_out_as_it_is(upstream: Upstream) -> None:
    upstream.script({"status": 201, "body": "made"})

    response = create(Call(20), upstream.url + PATH)

    assert (response.status, response.content) == (201, b"made")
    (call,) = upstream.calls()
    assert (call["method"], call["body"]) == ("POST", "a=1")
    assert call["headers"]["content-type"] == "application/x-form"
    assert call["headers"]["x-a"] == "b"


def test_each_create_has_a_connection_of_its_own(upstream: Upstream) -> None:
    net_connection.close_idle_connections()
    upstream.script(default={})

    for _ in range(3):
        create(Call(20), upstream.url + PATH)
    assert upstream.counts()["connections"] == 3

    # Others may go over the one that it leaves.
    post(upstream)
    assert upstream.counts()["connections"] == 3


@pytest.mark.parametrize(
    "step",
    [
        {"cut": -1},
        {"cut": 20},
        {"chunked": True, "cut": 20},
        {"raw": "SSH-2.0-OpenSSH\r\n"},
        {"status": 307, "headers": {"location": "/elsewhere"}},
    ],
)
@pytest.mark.parametrize("kept", [False, True])
def test_a_create_that_was_sent_is_not_sent_again(
    upstream: Upstream, step: dict[str, object], kept: bool
) -> None:
    net_connection.close_idle_connections()
    if kept:
        post(upstream)
    upstream.script(default=step)

    assert not nothing_ran(upstream)
    assert upstream.counts()["received"] == 1 + kept


@pytest.mark.parametrize("step", [{"delay": 60}, {"body_delay": 60}])
def test_a_create_that_was_late_may_have_run(upstream: Upstream, step: dict[str, object]) -> None:
    upstream.script(default=step)

    assert not nothing_ran(upstream, Call(1))
    upstream.wait(aborted=1)


def test_a_create_that_could_not_be_sent_has_not_run(upstream: Upstream) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = port_of(listener)

    for url in (f"http://127.0.0.1:{port}{PATH}", f"http://nowhere.invalid{PATH}"):
        with pytest.raises(ProviderFailed, match="could not be reached") as raised:
            create(Call(20), url)
        assert raised.value.nothing_ran

    assert nothing_ran(upstream, Call(0))
    assert upstream.counts()["received"] == 0


def test_a_create_that_nobody_accepts_has_not_run() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, closing(socket.socket()) as one:
        one.connect(full.getsockname())

        with pytest.raises(ProviderTimeout) as raised:
            create(Call(0.2), f"http://127.0.0.1:{port_of(full)}{PATH}")

    assert raised.value.nothing_ran


def test_a_create_in_its_handshake_has_not_run(silent: socket.socket) -> None:
    outcome = Outcome(Call(60), f"https://127.0.0.1:{port_of(silent)}{PATH}", create)
    connection, _ = silent.accept()

    with closing(connection):
        connection.recv(1)
        error = outcome.after_abort()

    assert isinstance(error, JobCancelled)
    assert error.as_json() == CANCELLED.as_json()
    assert error.nothing_ran


def test_what_was_not_sent_says_nothing_of_what_was(upstream: Upstream) -> None:
    """Both raise what their call was aborted with."""
    upstream.script({"delay": 60})
    call = Call(60)
    outcome = Outcome(call, upstream.url + PATH, create)
    upstream.wait(received=1)
    sent = outcome.after_abort()

    assert nothing_ran(upstream, call)
    assert sent is not None
    assert not sent.nothing_ran


@pytest.mark.parametrize("step", [{"delay": 60}, {"body_delay": 60}, {"dribble": " ", "gap": 0.01}])
def test_an_abort_ends_a_create_that_may_have_run(
    upstream: Upstream, step: dict[str, object]
) -> None:
    upstream.script(step)
    outcome = Outcome(Call(60), upstream.url + PATH, create)
    upstream.wait(received=1)

    error = outcome.after_abort()

    assert error is CANCELLED
    assert not error.nothing_ran
    upstream.wait(aborted=1)


def test_an_error_raised_over_an_answer_may_say_that_nothing_ran(upstream: Upstream) -> None:
    said = ProviderFailed("It said so.")
    said.nothing_ran = True
    upstream.script({"status": 500})

    with pytest.raises(ProviderFailed), http.create(Call(20), upstream.url + PATH, {}, b"", "a/b"):
        raise said

    assert said.nothing_ran
