"""One request: answered, ended by its deadline, or by the other side."""

import socket
from contextlib import closing

import pytest

from models.errors import InvalidRequest, ProviderFailed, ProviderTimeout
from net import answer as net_answer
from net import connection as net_connection
from net import http
from net.answer import Response
from net.call import Call
from tests.net.asking import CANCELLED, PATH, Outcome, port_of, post
from tests.upstream import Upstream


@pytest.mark.parametrize("levels", [255, 1000])
def test_what_json_cannot_say_is_not_sent(upstream: Upstream, levels: int) -> None:
    value: list[object] = []
    for _ in range(levels):
        value = [value]

    for payload in ({"a": value}, {"a": 2**64}):
        with pytest.raises(InvalidRequest):
            http.post(Call(20), upstream.url + PATH, {}, payload)

    assert upstream.counts()["received"] == 0


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
    net_connection.close_idle_connections()
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
    net_connection.close_idle_connections()
    upstream.script({}, {"cut": -1}, {})
    post(upstream)

    assert post(upstream).status == 200
    assert upstream.counts() == {"received": 3, "running": 0, "aborted": 0, "connections": 2}


def test_a_fresh_connection_that_closes_is_not_tried_again(upstream: Upstream) -> None:
    net_connection.close_idle_connections()
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

    response = http.send_without_body(
        Call(20), "GET", f"{upstream.url}/a?b=c", {"Authorization": "k"}
    )

    assert (response.status, response.headers["x-tea"]) == (418, "Yes")
    assert response.content.decode() == "Grüße"
    (call,) = upstream.calls()
    assert (call["method"], call["path"], call["body"]) == ("GET", "/a?b=c", None)
    assert call["headers"]["authorization"] == "k"
    assert "content-type" not in call["headers"]


def test_a_question_on_a_stale_connection_is_asked_anew(upstream: Upstream) -> None:
    net_connection.close_idle_connections()
    upstream.script({}, {"cut": -1}, {})
    post(upstream)

    assert http.send_without_body(Call(20), "GET", upstream.url + PATH, {}).status == 200
    assert upstream.counts()["received"] == 3


def test_an_abort_ends_a_question(upstream: Upstream) -> None:
    upstream.script({"delay": 60})
    outcome = Outcome(Call(60), upstream.url + PATH, lambda call, url, *_: question(call, url))
    upstream.wait(received=1)

    assert outcome.after_abort() is CANCELLED
    upstream.wait(aborted=1)


def question(call: Call, url: str) -> Response:
    return http.send_without_body(call, "GET", url, {})


@pytest.mark.parametrize("step", [{"cut": -1}, {"cut": 20}, {"status": 302}])
def test_a_question_that_is_not_answered_is_a_failure(
    upstream: Upstream, step: dict[str, object]
) -> None:
    net_connection.close_idle_connections()
    upstream.script(default=step)

    with pytest.raises(ProviderFailed):
        question(Call(20), upstream.url + PATH)

    assert upstream.counts()["received"] == 1
