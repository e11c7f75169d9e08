"""What OpenAI refuses, what may have been paid for, and what is ended from outside."""

import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from config.settings import settings
from models.errors import (
    ContentPolicyViolation,
    InvalidRequest,
    JobCancelled,
    LikeDoError,
    ProviderFailed,
    ProviderRefusedUs,
    ProviderTimeout,
    UnsupportedParameter,
)
from net import connection, http
from net.call import Call
from tests.providers.openai_images.drawing import (
    CANCELLED,
    LARGE,
    PNG,
    Drawing,
    answer,
    base64_of,
    draw,
    failure,
    file,
    files,
)
from tests.upstream import ROOT, Step, Upstream

# ---- Refusals


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"code": "content_policy_violation"}, ContentPolicyViolation),
        (
            {"code": "moderation_blocked", "type": "image_generation_user_error"},
            ContentPolicyViolation,
        ),
        ({"code": None, "type": "image_generation_user_error"}, ContentPolicyViolation),
        ({"code": "billing_hard_limit_reached"}, ProviderRefusedUs),
        ({"code": "invalid_value", "param": "size"}, InvalidRequest),
        ({"code": "unknown_parameter", "param": "quality"}, UnsupportedParameter),
    ],
)
def test_a_refusal_is_of_the_most_precise_class(
    upstream: Upstream, tmp_path: Path, error: dict[str, Any], kind: type[LikeDoError]
) -> None:
    said = {"message": "Your request was rejected.", "type": "invalid_request_error"} | error
    upstream.script(default={"status": 400, "json": {"error": said}})

    found = failure(tmp_path)

    assert type(found) is kind
    assert found.param == error.get("param")
    assert found.nothing_ran
    assert upstream.counts()["received"] == 1


def test_an_error_within_a_200_is_that_error_and_may_have_run(
    upstream: Upstream, tmp_path: Path
) -> None:
    error = {"message": "Blocked.", "code": "moderation_blocked", "type": "invalid_request_error"}
    upstream.script({"json": {"error": error}})

    found = failure(tmp_path)

    assert type(found) is ContentPolicyViolation
    assert not found.nothing_ran


# ---- Nothing is paid for twice


ENVELOPE = {"error": {"message": "The server had an error.", "type": "server_error"}}


@pytest.mark.parametrize(
    ("step", "nothing_ran"),
    [
        pytest.param({"status": 500, "json": ENVELOPE}, True, id="says-500"),
        pytest.param({"status": 503, "json": ENVELOPE}, True, id="says-503"),
        pytest.param({"status": 429, "json": ENVELOPE}, True, id="busy"),
        pytest.param({"status": 401, "json": ENVELOPE}, True, id="wrong-key"),
        pytest.param({"status": 404, "json": ENVELOPE}, True, id="no-such-model"),
        pytest.param({"status": 502, "json": ENVELOPE}, False, id="says-502"),
        pytest.param({"status": 504, "json": ENVELOPE}, False, id="says-504"),
        pytest.param({"status": 408, "json": ENVELOPE}, False, id="says-408"),
        pytest.param({"status": 500, "json": {"message": "Oops."}}, False, id="a-gateways-500"),
        pytest.param({"status": 503, "json": {"error": "Down."}}, False, id="a-gateways-503"),
        pytest.param(
            {"status": 503, "body": "<html>", "headers": {"content-type": "text/html"}},
            False,
            id="a-page-of-503",
        ),
        pytest.param({"status": 503, "body": "{"}, False, id="half-an-envelope"),
        pytest.param({"cut": -1}, False, id="no-answer"),
        pytest.param(answer({"b64_json": base64_of(PNG)}) | {"cut": 40}, False, id="cut-short"),
        pytest.param({"raw": "SSH-2.0-OpenSSH\r\n"}, False, id="no-http"),
    ],
)
def test_a_create_is_never_repeated_after_its_bytes_went_out(
    upstream: Upstream, tmp_path: Path, step: Step, nothing_ran: bool
) -> None:
    upstream.script(default=step)

    error = failure(tmp_path)

    assert error.nothing_ran is nothing_ran
    assert upstream.counts()["received"] == 1


@pytest.mark.parametrize("step", [{"delay": 60}, {"body_delay": 60}, {"dribble": " ", "gap": 0.01}])
def test_a_create_that_takes_too_long_is_not_repeated(
    upstream: Upstream, tmp_path: Path, step: Step
) -> None:
    upstream.script(default=step)

    error = failure(tmp_path, call=Call(1))

    assert type(error) is ProviderTimeout
    assert not error.nothing_ran
    upstream.wait(aborted=1)
    assert upstream.counts()["received"] == 1


def test_a_create_does_not_go_over_a_connection_that_may_be_stale(
    upstream: Upstream, tmp_path: Path
) -> None:
    connection.close_idle_connections()
    upstream.script({"match": "/before"}, {"cut": -1}, answer({"b64_json": base64_of(PNG)}))
    http.post(Call(60), upstream.url + "/before", {}, {})

    assert not failure(tmp_path).nothing_ran
    assert upstream.counts()["received"] == 2

    assert files(draw(tmp_path)) == [PNG]
    assert upstream.counts()["connections"] == 3


def test_a_provider_that_is_not_there_has_begun_nothing(
    upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    monkeypatch.setattr(settings, "openai_base_url", url)

    error = failure(tmp_path)

    assert type(error) is ProviderFailed
    assert error.nothing_ran


# ---- Ended from outside


@pytest.mark.parametrize(
    "step",
    [
        pytest.param({"delay": 60}, id="before-the-headers"),
        pytest.param({"body_delay": 60}, id="before-the-body"),
        pytest.param(
            answer({"b64_json": base64_of(LARGE)}) | {"split": 90_000, "gap": 60}, id="in-an-image"
        ),
    ],
)
def test_an_abort_ends_the_drawing_with_its_reason(
    upstream: Upstream, tmp_path: Path, step: Step
) -> None:
    upstream.script(default=step)
    call = Call(60)
    drawing = Drawing(tmp_path, 1, call)
    upstream.wait(received=1)

    call.abort(CANCELLED)

    assert drawing.end() is CANCELLED
    upstream.wait(aborted=1)
    assert upstream.counts()["received"] == 1


def test_a_call_aborted_beforehand_asks_for_nothing(upstream: Upstream, tmp_path: Path) -> None:
    call = Call(60)
    call.abort(CANCELLED)

    error = failure(tmp_path, call=call)

    assert type(error) is JobCancelled
    assert error.nothing_ran
    assert upstream.counts()["received"] == 0


@pytest.mark.parametrize("way", ["draw", "abort"])
def test_greenlets_draw_as_threads_do(upstream: Upstream, tmp_path: Path, way: str) -> None:
    delay = {"delay": 60} if way == "abort" else {}
    upstream.script(
        answer(*[{"url": f"{upstream.url}/{place}.png"} for place in range(4)]),
        *[file(f"/{place}.png", **delay) for place in range(4)],
    )

    command = [sys.executable, "-c", GREENLET, upstream.url, str(tmp_path), way]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)

    said = "4 pictures\n" if way == "draw" else "JobCancelled\n"
    assert (done.stdout, done.stderr) == (said, "")
    assert upstream.counts()["received"] == 5


GREENLET = """
from gevent import monkey
monkey.patch_all()
import sys
import urllib.request
from pathlib import Path
import gevent
from config.catalog.load import catalog
from config.settings import settings
from models.errors import JobCancelled
from providers import images
from net.call import Call
from providers.image import Picture, DrawRequest

url, folder, way = sys.argv[1:]
settings.openai_base_url = url + "/openai"
call = Call(60)

def run():
    try:
        request = DrawRequest("gpt-image-2", "A", 4, Path(folder))
        drawn = images["openai"].draw(request, "k", call, print)
        print(sum(isinstance(each, Picture) for each in drawn.pictures), "pictures")
    except JobCancelled:
        print("JobCancelled")

greenlet = gevent.spawn(run)
if way == "abort":
    urllib.request.urlopen(url + "/__calls?bare=1&received=5").close()
    call.abort(JobCancelled("Cancelled."))
greenlet.get()
"""
