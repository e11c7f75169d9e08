"""One request: ended from outside at any moment, by its deadline, or by the other side."""

import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from models.errors import InvalidRequest, JobCancelled, LikeDoError, ProviderFailed, ProviderTimeout
from net import answer as net_answer
from net import connection as net_connection
from net import http
from net.answer import Response
from net.call import Call
from tests.upstream import ROOT, Upstream

CANCELLED = JobCancelled("The job was cancelled.")
PATH = "/v1/chat/completions"


def post(upstream: Upstream, call: Call | None = None) -> Response:
    return http.post(call or Call(20), upstream.url + PATH, {"Authorization": "k"}, {"a": "ä"})


@pytest.mark.parametrize("levels", [255, 1000])
def test_what_json_cannot_say_is_not_sent(upstream: Upstream, levels: int) -> None:
    value: list[object] = []
    for _ in range(levels):
        value = [value]

    for payload in ({"a": value}, {"a": 2**64}):
        with pytest.raises(InvalidRequest):
            http.post(Call(20), upstream.url + PATH, {}, payload)

    assert upstream.counts()["received"] == 0


class Outcome:
    """A post, or another `way` to ask, in a thread of its own, and what it raised."""

    def __init__(self, call: Call, url: str, way: Callable[..., object] = http.post) -> None:
        self.call = call
        self.error: LikeDoError | None = None
        self._thread = threading.Thread(target=self._run, args=(url, way))
        self._thread.start()

    def _run(self, url: str, way: Callable[..., object]) -> None:
        try:
            way(self.call, url, {}, {})
        except LikeDoError as error:
            self.error = error

    def after_abort(self) -> LikeDoError | None:
        self.call.abort(CANCELLED)
        return self.at_last()

    def at_last(self) -> LikeDoError | None:
        self._thread.join()
        return self.error


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A server that accepts connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def port_of(listener: socket.socket) -> int:
    return int(listener.getsockname()[1])


def test_an_answer_is_its_status_headers_and_bytes(upstream: Upstream) -> None:
    upstream.script({"status": 418, "headers": {"X-Tea": "Yes"}, "body": "Grüße"})

    response = post(upstream)

    assert (response.status, response.headers["x-tea"]) == (418, "Yes")
    assert response.content.decode() == "Grüße"


def test_a_payload_goes_out_as_json_with_the_given_headers(upstream: Upstream) -> None:
    post(upstream)

    (call,) = upstream.calls()
    assert call["body"] == {"a": "ä"}
    assert call["headers"]["authorization"] == "k"
    assert call["headers"]["content-type"] == "application/json"
    assert "cookie" not in call["headers"]


def test_cookies_are_not_kept(upstream: Upstream) -> None:
    upstream.script({"headers": {"set-cookie": "a=b; Path=/"}})

    post(upstream)
    post(upstream)

    assert "cookie" not in upstream.calls()[1]["headers"]


@pytest.mark.parametrize(
    "step", [{}, {"chunked": True}, {"split": 7}, {"dribble": " ", "times": 2}]
)
def test_a_connection_is_used_again(upstream: Upstream, step: dict[str, object]) -> None:
    net_connection.forget_connections()
    upstream.script(default=step)

    for _ in range(3):
        post(upstream)

    assert upstream.counts()["connections"] == 1


def test_compressed_answers_are_read_all_the_same(upstream: Upstream) -> None:
    import base64
    import gzip

    squeezed = base64.b64encode(gzip.compress(b'{"a": 1}')).decode()
    upstream.script({"headers": {"content-encoding": "gzip"}, "body_base64": squeezed})

    assert post(upstream).content == b'{"a": 1}'


# ---- Ended from outside


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
    net_connection.forget_connections()
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
        call = Watched(60, reached)
        outcome = Outcome(call, f"http://127.0.0.1:{port_of(full)}{PATH}")
        reached.wait()

        assert outcome.after_abort() is CANCELLED


class Watched(Call):
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


# ---- Read as it comes


def listen(call: Call, url: str, headers: dict[str, str], payload: object) -> list[bytes]:
    with http.stream(call, url, {}, {}) as answer:
        return list(answer.events())


def events(upstream: Upstream, call: Call | None = None) -> list[bytes]:
    return listen(call or Call(20), upstream.url + PATH, {}, {})


def test_a_stream_is_its_status_headers_and_events(upstream: Upstream) -> None:
    upstream.script({"status": 201, "headers": {"X-Tea": "Yes"}, "events": ["ä", "b", "[DONE]"]})

    with http.stream(Call(20), upstream.url + PATH, {"Authorization": "k"}, {"a": 1}) as answer:
        assert (answer.status, answer.headers["x-tea"]) == (201, "Yes")
        assert answer.has_events()
        assert list(answer.events()) == ["ä".encode(), b"b"]

    (call,) = upstream.calls()
    assert call["body"] == {"a": 1}
    assert call["headers"]["accept"] == "text/event-stream"
    assert call["headers"]["authorization"] == "k"


@pytest.mark.parametrize("split", [1, 2, 3, 7])
def test_events_come_whole_however_they_are_cut(upstream: Upstream, split: int) -> None:
    body = "\ufeff: hi\r\n\r\ndata: ä€\r\ndata: 😀\r\n\r\nevent: x\ndata: b\n\ndata: [DONE]\n\n"
    upstream.script({"body": body, "split": split}, {"body": body, "split": split, "chunked": True})

    for _ in range(2):
        assert events(upstream) == ["ä€\n😀".encode(), b"b"]


def test_an_event_is_there_as_soon_as_it_has_come(upstream: Upstream) -> None:
    upstream.script({"events": ["a", "b"], "gap": 60})

    with http.stream(Call(20), upstream.url + PATH, {}, {}) as answer:
        assert next(answer.events()) == b"a"

    upstream.wait(aborted=1)


@pytest.mark.parametrize(
    ("body", "has_events"),
    [
        ("data: a\n\n", True),
        (": wait\n\n", True),
        ("\n\ndata: a\n\n", True),
        ("", True),
        ('{"a": 1}', False),
        (" \n\n [1]", False),
        ("<html>", False),
    ],
)
@pytest.mark.parametrize("split", [None, 1])
def test_events_are_known_by_the_first_byte(
    upstream: Upstream, body: str, has_events: bool, split: int | None
) -> None:
    upstream.script({"body": body} | ({"split": split} if split else {}))

    with http.stream(Call(20), upstream.url + PATH, {}, {}) as answer:
        assert answer.has_events() is has_events
        assert answer.whole().content.decode() == body


@pytest.mark.parametrize(
    "step",
    [
        pytest.param({"events": ["a", "[DONE]"]}, id="done"),
        pytest.param({"events": ["a"]}, id="not-done"),
        pytest.param({"body": "data: a\n\ndata: [DONE]\n\n"}, id="of-known-length"),
        pytest.param(
            {"body": "data: a\n\ndata: [DONE]\n\n", "chunked": True, "split": 5}, id="cut"
        ),
    ],
)
def test_a_connection_is_used_again_after_a_stream(
    upstream: Upstream, step: dict[str, object]
) -> None:
    net_connection.forget_connections()
    upstream.script(default=step)

    for _ in range(3):
        assert events(upstream) == [b"a"]

    assert upstream.counts()["connections"] == 1


def test_a_connection_that_goes_on_after_the_stream_is_closed(upstream: Upstream) -> None:
    upstream.script({"events": ["a\n\ndata: [DONE]", "more"], "gap": 60})

    assert events(upstream) == [b"a"]

    upstream.wait(aborted=1)


def test_a_kept_connection_that_closes_under_a_stream_is_tried_anew(upstream: Upstream) -> None:
    net_connection.forget_connections()
    upstream.script({}, {"cut": -1}, {"events": ["a"]})
    post(upstream)

    assert events(upstream) == [b"a"]
    assert upstream.counts()["connections"] == 2


@pytest.mark.parametrize(
    "step",
    [
        pytest.param({"delay": 60}, id="before-the-headers"),
        pytest.param({"body_delay": 60}, id="before-the-first-event"),
        pytest.param({"events": ["a", "b"], "gap": 60}, id="between-events"),
        pytest.param({"dribble": ": wait\n\n", "gap": 0.01}, id="while-only-comments-come"),
    ],
)
def test_an_abort_ends_a_stream_with_its_reason(
    upstream: Upstream, step: dict[str, object]
) -> None:
    upstream.script(step)
    outcome = Outcome(Call(60), upstream.url + PATH, listen)
    upstream.wait(received=1)

    error = outcome.after_abort()

    assert error is CANCELLED
    upstream.wait(aborted=1)


def test_an_abort_ends_a_stream_that_nobody_reads_from_just_now(upstream: Upstream) -> None:
    upstream.script({"events": ["a", "b"], "gap": 60})
    call = Call(60)

    with http.stream(call, upstream.url + PATH, {}, {}) as answer:
        found = answer.events()
        assert next(found) == b"a"

        call.abort(CANCELLED)
        upstream.wait(aborted=1)

        with pytest.raises(JobCancelled) as raised:
            next(found)
    assert raised.value is CANCELLED


def test_after_an_abort_nothing_more_is_given(upstream: Upstream) -> None:
    upstream.script({"body": "data: a\n\ndata: b\n\n"})
    call = Call(60)

    with http.stream(call, upstream.url + PATH, {}, {}) as answer:
        found = answer.events()
        assert next(found) == b"a"
        call.abort(CANCELLED)

        with pytest.raises(JobCancelled):
            next(found)


def test_an_abort_leaves_alone_whoever_has_the_connection_next(upstream: Upstream) -> None:
    """What was said may be read to its end, and wait here to be fetched."""
    net_connection.forget_connections()
    upstream.script({"body": "data: a\n\ndata: b\n\n"}, {"delay": 0.05})
    first = Call(20)

    with http.stream(first, upstream.url + PATH, {}, {}) as answer:
        assert next(answer.events()) == b"a"
        outcome = Outcome(Call(20), upstream.url + PATH)
        upstream.wait(received=2)
        first.abort(CANCELLED)

    assert outcome.at_last() is None
    assert upstream.counts()["connections"] == 1


def test_requests_of_one_thread_do_not_mix_with_its_stream(upstream: Upstream) -> None:
    upstream.script({"events": ["a", "b"], "gap": 60}, {})
    call = Call(60)

    with http.stream(call, upstream.url + PATH, {}, {}) as answer:
        found = answer.events()
        next(found)
        post(upstream)
        call.abort(CANCELLED)

        with pytest.raises(JobCancelled):
            next(found)


@pytest.mark.parametrize(
    "step",
    [{"dribble": ": wait\n\n", "gap": 0.01}, {"events": ["a", "b"], "gap": 60}, {"delay": 60}],
)
def test_no_stream_outlasts_the_deadline(upstream: Upstream, step: dict[str, object]) -> None:
    upstream.script(step)

    with pytest.raises(ProviderTimeout):
        events(upstream, Call(1))

    upstream.wait(aborted=1)


@pytest.mark.parametrize(
    "step",
    [
        {"events": ["a", "b"], "cut": 12},
        {"body": "data: a\n\n", "cut": 5},
        {"cut": -1},
        {"raw": "SSH-2.0-OpenSSH\r\n"},
        {"status": 302, "headers": {"location": "/elsewhere"}},
    ],
)
def test_a_stream_that_the_other_side_cuts_is_a_failure(
    upstream: Upstream, step: dict[str, object]
) -> None:
    net_connection.forget_connections()
    upstream.script(step)

    with pytest.raises(ProviderFailed):
        events(upstream)


def test_a_stream_without_end_is_refused(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(net_answer, "MAX_ANSWER_BYTES", 1000)
    upstream.script({"dribble": "data: a\n\n"})

    with pytest.raises(ProviderFailed, match="too large"):
        events(upstream)


# ---- Ended by the deadline


@pytest.mark.parametrize(
    "step",
    [{"delay": 60}, {"body_delay": 60}, {"dribble": "\n", "gap": 0.01}, {"split": 1, "gap": 0.05}],
)
def test_no_answer_outlasts_the_deadline(upstream: Upstream, step: dict[str, object]) -> None:
    upstream.script(step)

    with pytest.raises(ProviderTimeout):
        post(upstream, Call(1))

    upstream.wait(aborted=1)


def test_a_call_past_its_deadline_sends_nothing(upstream: Upstream) -> None:
    with pytest.raises(ProviderTimeout):
        post(upstream, Call(0))

    assert upstream.counts()["received"] == 0


def test_a_connection_that_nobody_accepts_ends_with_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, closing(socket.socket()) as one:
        one.connect(full.getsockname())

        with pytest.raises(ProviderTimeout):
            http.post(Call(0.2), f"http://127.0.0.1:{port_of(full)}{PATH}", {}, {})


# ---- Ended by the other side


def test_a_kept_connection_that_the_server_closed_is_no_failure(upstream: Upstream) -> None:
    for _ in range(5):
        upstream.script({"close": "silent"})

        assert post(upstream).status == 200


def test_a_kept_connection_that_closes_under_the_request_is_tried_anew(upstream: Upstream) -> None:
    net_connection.forget_connections()
    upstream.script({}, {"cut": -1}, {})
    post(upstream)

    assert post(upstream).status == 200
    assert upstream.counts() == {"received": 3, "running": 0, "aborted": 0, "connections": 2}


def test_a_fresh_connection_that_closes_is_not_tried_again(upstream: Upstream) -> None:
    net_connection.forget_connections()
    upstream.script({"cut": -1})

    with pytest.raises(ProviderFailed):
        post(upstream)

    assert upstream.counts()["received"] == 1


@pytest.mark.parametrize(
    "step", [{"cut": 20}, {"chunked": True, "cut": 20}, {"raw": "SSH-2.0-OpenSSH\r\n"}]
)
def test_an_answer_that_began_is_not_asked_for_again(
    upstream: Upstream, step: dict[str, object]
) -> None:
    post(upstream)
    upstream.script(step)

    with pytest.raises(ProviderFailed) as raised:
        post(upstream)

    assert raised.value.__cause__ is not None
    assert upstream.counts()["received"] == 2


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(upstream: Upstream, status: int) -> None:
    upstream.script({"status": status, "headers": {"location": upstream.url + "/elsewhere"}})

    with pytest.raises(ProviderFailed):
        post(upstream)

    assert [call["path"] for call in upstream.calls()] == [PATH]


def test_an_answer_without_end_is_refused(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(net_answer, "MAX_ANSWER_BYTES", 1000)
    upstream.script({"size": 1000}, {"size": 1001})

    assert len(post(upstream).content) == 1000
    with pytest.raises(ProviderFailed, match="too large"):
        post(upstream)


def test_a_server_that_is_not_there_is_a_failure() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = port_of(listener)

    with pytest.raises(ProviderFailed, match="could not be reached"):
        http.post(Call(20), f"http://127.0.0.1:{port}{PATH}", {}, {})


def test_a_host_without_an_address_is_a_failure() -> None:
    with pytest.raises(ProviderFailed, match="could not be reached"):
        http.post(Call(20), f"http://nowhere.invalid{PATH}", {}, {})


# ---- Asked without a body


def test_a_question_has_no_body_and_no_type_of_one(upstream: Upstream) -> None:
    upstream.script({"status": 418, "headers": {"X-Tea": "Yes"}, "body": "Grüße"})

    response = http.ask(Call(20), "GET", f"{upstream.url}/a?b=c", {"Authorization": "k"})

    assert (response.status, response.headers["x-tea"]) == (418, "Yes")
    assert response.content.decode() == "Grüße"
    (call,) = upstream.calls()
    assert (call["method"], call["path"], call["body"]) == ("GET", "/a?b=c", None)
    assert call["headers"]["authorization"] == "k"
    assert "content-type" not in call["headers"]


def test_a_question_on_a_stale_connection_is_asked_anew(upstream: Upstream) -> None:
    net_connection.forget_connections()
    upstream.script({}, {"cut": -1}, {})
    post(upstream)

    assert http.ask(Call(20), "GET", upstream.url + PATH, {}).status == 200
    assert upstream.counts()["received"] == 3


def test_an_abort_ends_a_question(upstream: Upstream) -> None:
    upstream.script({"delay": 60})
    outcome = Outcome(Call(60), upstream.url + PATH, lambda call, url, *_: question(call, url))
    upstream.wait(received=1)

    assert outcome.after_abort() is CANCELLED
    upstream.wait(aborted=1)


def question(call: Call, url: str) -> Response:
    return http.ask(call, "GET", url, {})


@pytest.mark.parametrize("step", [{"cut": -1}, {"cut": 20}, {"status": 302}])
def test_a_question_that_is_not_answered_is_a_failure(
    upstream: Upstream, step: dict[str, object]
) -> None:
    net_connection.forget_connections()
    upstream.script(default=step)

    with pytest.raises(ProviderFailed):
        question(Call(20), upstream.url + PATH)

    assert upstream.counts()["received"] == 1


# ---- Created, once


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
    net_connection.forget_connections()
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
    net_connection.forget_connections()
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


# ---- The environment


def test_a_proxy_of_the_environment_is_used(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", upstream.url)
    monkeypatch.setenv("NO_PROXY", "")
    net_connection.forget_connections()

    response = http.post(Call(20), f"http://provider.invalid{PATH}", {}, {})

    assert response.status == 200
    assert upstream.calls()[0]["target"] == f"http://provider.invalid{PATH}"
    net_connection.forget_connections()


def test_no_proxy_is_honoured(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    net_connection.forget_connections()

    assert post(upstream).status == 200
    net_connection.forget_connections()


def serve_once(listener: socket.socket, files: tuple[Path, Path]) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files)
    plain, _ = listener.accept()
    try:
        with context.wrap_socket(plain, server_side=True) as connection:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
            connection.recv(65536)
    except OSError:
        plain.close()


@pytest.mark.parametrize("trusted", [True, False])
def test_a_certificate_counts_if_the_bundle_of_the_environment_has_it(
    silent: socket.socket,
    certificate: tuple[Path, Path],
    trusted: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    net_connection.forget_connections()
    if trusted:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate[0]))
    server = threading.Thread(target=serve_once, args=(silent, certificate))
    server.start()

    try:
        response = http.post(Call(20), f"https://127.0.0.1:{port_of(silent)}/", {}, {})
    except ProviderFailed as error:
        assert not trusted
        assert "secure connection" in error.message
    else:
        assert trusted
        assert response.content == b"{}"
    finally:
        net_connection.forget_connections()
        server.join()
