"""One answer read as it comes: whole events, and an end by whoever ends it."""

import pytest

from models.errors import JobCancelled, ProviderFailed, ProviderTimeout
from net import answer as net_answer
from net import connection as net_connection
from net import http
from net.call import Call
from tests.net.asking import CANCELLED, PATH, Outcome, listen, post
from tests.upstream import Upstream


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
    net_connection.close_idle_connections()
    upstream.script(default=step)

    for _ in range(3):
        assert events(upstream) == [b"a"]

    assert upstream.counts()["connections"] == 1


def test_a_connection_that_goes_on_after_the_stream_is_closed(upstream: Upstream) -> None:
    upstream.script({"events": ["a\n\ndata: [DONE]", "more"], "gap": 60})

    assert events(upstream) == [b"a"]

    upstream.wait(aborted=1)


def test_a_kept_connection_that_closes_under_a_stream_is_tried_anew(upstream: Upstream) -> None:
    net_connection.close_idle_connections()
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
    net_connection.close_idle_connections()
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
    net_connection.close_idle_connections()
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
