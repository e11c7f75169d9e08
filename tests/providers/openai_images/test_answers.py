"""Images by OpenAI: asked for once, and what comes is a file or an error in its place."""

import base64
import json
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from config.catalog.load import catalog
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
from models.image import ImageRequest
from net import connection, http
from net.call import Call
from providers import image, images
from providers.image import Drawn, Picture, Wanted
from providers.openai_images import usage
from providers.wire import result_images
from tests import recordings
from tests.upstream import ROOT, Step, Upstream, as_step

PATH = "/images/generations"
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
)
LARGE = PNG + bytes(100_000)
CANCELLED = JobCancelled("The job was cancelled.")

#: The models that have a route of OpenAI's.
OF_OPENAI = sorted(
    name
    for name, model in catalog.images.items()
    if any(route.provider == "openai" for route in model.routes)
)
#: What each recorded refusal means.
REFUSALS = {
    "image-error-400-response-format-unknown-01": UnsupportedParameter,
    "image-generations-error-400-01": UnsupportedParameter,
    "image-generations-error-401-01": ProviderRefusedUs,
}


def draw(folder: Path, count: int = 1, call: Call | None = None, **sent: Any) -> Drawn:
    wanted = Wanted("gpt-image-2", "A lion.", count, folder, sent)
    return images["openai"].draw(wanted, "sk-test", call or Call(60), unexpected)


def unexpected(operation_id: str) -> None:
    pytest.fail("Nothing goes on after the answer.")


def failure(folder: Path, count: int = 1, call: Call | None = None) -> LikeDoError:
    with pytest.raises(LikeDoError) as raised:
        draw(folder, count, call)
    return raised.value


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def answer(*entries: Any, **more: Any) -> Step:
    return {"match": PATH, "json": {"created": 1, "data": entries} | more}


def file(path: str, data: bytes = PNG, **more: Any) -> Step:
    return {"match": path, "body_base64": base64_of(data)} | more


def files(drawn: Drawn) -> list[Any]:
    """Return the bytes of each image, or the class of the error in its place."""
    return [
        picture.path.read_bytes() if isinstance(picture, Picture) else type(picture)
        for picture in drawn.pictures
    ]


# ---- What is sent


def test_a_request_has_the_models_words_and_the_key(upstream: Upstream, tmp_path: Path) -> None:
    upstream.script(answer({"b64_json": base64_of(PNG)}))

    draw(tmp_path, 1, size="1536x1024", quality="high", user="ä")

    (call,) = upstream.calls()
    assert (call["method"], call["path"]) == ("POST", f"/openai{PATH}")
    assert call["headers"]["authorization"] == "Bearer sk-test"
    assert call["headers"]["content-type"] == "application/json"
    assert call["body"] == {
        "model": "gpt-image-2",
        "prompt": "A lion.",
        "size": "1536x1024",
        "quality": "high",
        "user": "ä",
    }


def test_several_images_are_one_request(upstream: Upstream, tmp_path: Path) -> None:
    upstream.script(answer(*[{"b64_json": base64_of(PNG)}] * 3))

    assert files(draw(tmp_path, 3)) == [PNG] * 3

    (call,) = upstream.calls()
    assert call["body"]["n"] == 3


@pytest.mark.parametrize("name", OF_OPENAI)
def test_no_model_is_sent_what_openai_refuses(
    upstream: Upstream, tmp_path: Path, name: str
) -> None:
    """`response_format` is no parameter of today's models, nor `standard` a quality of theirs."""
    routes = [each for each in catalog.images[name].routes if each.provider == "openai"]
    requests = [
        ImageRequest.read(
            {"model": name, "prompt": "A lion.", "response_format": response_format} | more
        )
        for response_format in ("url", "b64_json")
        for more in ({}, {"quality": "standard"}, {"quality": "hd", "n": 2, "user": "a"})
    ]
    upstream.script(default=answer({"b64_json": base64_of(PNG)}))

    for route in routes:
        for request in requests:
            wanted = image.wanted(request, route, request.count, tmp_path)
            images["openai"].draw(wanted, "sk", Call(60), unexpected)

    bodies = [call["body"] for call in upstream.calls()]
    assert len(bodies) == len(routes) * len(requests)
    assert not any("response_format" in body or "style" in body for body in bodies)
    assert not any(body.get("quality") == "standard" for body in bodies)


def test_what_json_cannot_say_is_not_sent(upstream: Upstream, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest):
        draw(tmp_path, 1, seed=2**64)

    assert upstream.counts()["received"] == 0


# ---- What comes back


@pytest.mark.parametrize("data", [PNG, LARGE], ids=["short", "long"])
def test_base64_is_a_file(upstream: Upstream, tmp_path: Path, data: bytes) -> None:
    upstream.script(answer({"b64_json": base64_of(data)}, {"b64_json": base64_of(PNG)}))

    drawn = draw(tmp_path, 2)

    assert files(drawn) == [data, PNG]
    assert all(isinstance(p, Picture) and p.path.parent == tmp_path for p in drawn.pictures)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_link_is_fetched_without_the_key(upstream: Upstream, tmp_path: Path) -> None:
    upstream.script(
        answer({"url": f"{upstream.url}/a.png?sig=b", "revised_prompt": "A lion, roaring."}),
        file("/a.png", LARGE),
    )

    drawn = draw(tmp_path)

    assert files(drawn) == [LARGE]
    (picture,) = drawn.pictures
    assert isinstance(picture, Picture)
    assert picture.revised_prompt == "A lion, roaring."
    assert upstream.calls()[1]["path"] == "/a.png?sig=b"
    assert "authorization" not in upstream.calls()[1]["headers"]


@pytest.mark.parametrize("data", [PNG, LARGE], ids=["short", "long"])
def test_a_link_may_have_the_image_in_it(upstream: Upstream, tmp_path: Path, data: bytes) -> None:
    upstream.script(answer({"url": f"data:image/png;base64,{base64_of(data)}"}))

    assert files(draw(tmp_path)) == [data]


def test_links_are_fetched_side_by_side(upstream: Upstream, tmp_path: Path) -> None:
    """None of them is answered before all have been asked for."""
    upstream.script(
        answer(*[{"url": f"{upstream.url}/{place}.png"} for place in range(4)]),
        *[file(f"/{place}.png", PNG + bytes([place]), delay=60) for place in range(4)],
    )
    call = Call(60)
    drawing = Drawing(tmp_path, 4, call)

    upstream.wait(received=5)
    call.abort(CANCELLED)

    assert drawing.end() is CANCELLED
    upstream.wait(aborted=4)


def test_one_that_fails_does_not_keep_the_others(
    upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(result_images, "RETRY_PAUSES", (0.0, 0.0))
    gone = {"match": "/gone.png", "status": 403, "body": "expired"}
    broken = {"match": "/broken.png", "status": 503, "body": ""}
    upstream.script(
        answer(
            {"b64_json": base64_of(LARGE)},
            {"b64_json": "!" * 100_000},
            {"b64_json": "!"},
            {"url": f"{upstream.url}/a.png"},
            {"url": f"{upstream.url}/gone.png"},
            {"url": f"{upstream.url}/broken.png"},
            {"url": "http://169.254.169.254/latest/meta-data"},
            {},
            None,
            {"url": 5},
        ),
        file("/a.png"),
        gone,
        *[broken] * 3,
    )

    assert files(draw(tmp_path, 10)) == [LARGE, *[ProviderFailed] * 2, PNG, *[ProviderFailed] * 6]
    assert len(list(tmp_path.iterdir())) == 2


def test_fewer_images_than_wanted_are_errors_in_their_place(
    upstream: Upstream, tmp_path: Path
) -> None:
    upstream.script(answer({"b64_json": base64_of(PNG)}))

    drawn = draw(tmp_path, 3)

    assert files(drawn) == [PNG, ProviderFailed, ProviderFailed]
    assert not any(each.nothing_ran for each in drawn.pictures if isinstance(each, LikeDoError))


def test_more_images_than_wanted_are_left(upstream: Upstream, tmp_path: Path) -> None:
    upstream.script(answer(*[{"url": f"{upstream.url}/a.png"}] * 3), file("/a.png"))

    assert files(draw(tmp_path)) == [PNG]
    assert upstream.counts()["received"] == 2


@pytest.mark.parametrize(
    "step",
    [
        pytest.param(answer(), id="no-data"),
        pytest.param(answer({}), id="an-empty-entry"),
        pytest.param(answer({"b64_json": "!"}, {"b64_json": None}), id="only-broken-ones"),
        pytest.param({"json": {"data": {}}}, id="data-of-another-type"),
        pytest.param({"json": []}, id="a-list"),
        pytest.param({"body": "<html>"}, id="a-page"),
        pytest.param({"body": ""}, id="nothing"),
        pytest.param({"body": '{"data": [{"b64_json": "' + "A" * 100_000}, id="unfinished"),
        pytest.param({"json": {"error": "No."}}, id="an-error-in-words"),
        pytest.param({"status": 302, "headers": {"location": "/"}}, id="a-redirect"),
    ],
)
def test_an_answer_without_images_is_a_failure(
    upstream: Upstream, tmp_path: Path, step: Step
) -> None:
    upstream.script(default=step)

    error = failure(tmp_path, 2)

    assert type(error) is ProviderFailed
    assert not error.nothing_ran
    assert upstream.counts()["received"] == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("reported", "kept"),
    [
        (None, None),
        ({"input_tokens": 10}, None),
        ({"input_tokens": "10", "output_tokens": 5}, None),
        ({"input_tokens": True, "output_tokens": 5}, None),
        (
            {"input_tokens": 10, "output_tokens": 5, "total_tokens": None, "cost": 3},
            {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15},
        ),
        (
            {
                "input_tokens": 10,
                "output_tokens": 5,
                "total_tokens": 15,
                "input_tokens_details": {"text_tokens": 10, "image_tokens": 0, "x": "secret"},
                "output_tokens_details": {"image_tokens": -1},
            },
            {
                "input_tokens": 10,
                "output_tokens": 5,
                "total_tokens": 15,
                "input_tokens_details": {"text_tokens": 10, "image_tokens": 0},
                "output_tokens_details": {},
            },
        ),
    ],
)
def test_usage_has_what_openai_counts(reported: Any, kept: Any) -> None:
    assert usage(reported) == kept


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
    connection.forget_connections()
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


class Drawing:
    """Some images being drawn in a thread of their own, and what was raised."""

    def __init__(self, folder: Path, count: int, call: Call) -> None:
        self._error: LikeDoError | None = None
        self._thread = threading.Thread(target=self._run, args=(folder, count, call))
        self._thread.start()

    def _run(self, folder: Path, count: int, call: Call) -> None:
        try:
            draw(folder, count, call)
        except LikeDoError as error:
            self._error = error

    def end(self) -> LikeDoError | None:
        self._thread.join()
        return self._error


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
from providers.image import Picture, Wanted

url, folder, way = sys.argv[1:]
settings.openai_base_url = url + "/openai"
call = Call(60)

def run():
    try:
        drawn = images["openai"].draw(Wanted("gpt-image-2", "A", 4, Path(folder)), "k", call, print)
        print(sum(isinstance(each, Picture) for each in drawn.pictures), "pictures")
    except JobCancelled:
        print("JobCancelled")

greenlet = gevent.spawn(run)
if way == "abort":
    urllib.request.urlopen(url + "/__calls?bare=1&received=5").close()
    call.abort(JobCancelled("Cancelled."))
greenlet.get()
"""


# ---- As it was recorded

EXCHANGES = [
    (recording, place)
    for recording in recordings.load("openai")
    for place, exchange in enumerate(recording.exchanges)
    if exchange["request"]["url"].endswith(PATH)
]


@pytest.mark.parametrize(
    "found",
    recordings.parameters(
        EXCHANGES, [f"{recording.case}-{place}" for recording, place in EXCHANGES]
    ),
)
def test_every_recording_passes_through(upstream: Upstream, tmp_path: Path, found: Any) -> None:
    recording, place = found
    response = recording.exchanges[place]["response"]
    body = json.loads(response["body"])
    for number, entry in enumerate(body.get("data", ())):
        if "url" in entry:
            # Where the image was has forgotten it.
            entry["url"] = f"{upstream.url}/{number}.png"
    upstream.script(
        as_step(response) | {"match": PATH, "body": json.dumps(body)}, default=file(".png")
    )

    if response["status"] != 200:
        error = failure(tmp_path)
        assert type(error) is REFUSALS[recording.case]
        assert body["error"]["message"] == error.message or recording.case.endswith("401-01")
        assert error.nothing_ran
        return

    drawn = draw(tmp_path, len(body["data"]))
    for entry, picture in zip(body["data"], drawn.pictures, strict=True):
        assert isinstance(picture, Picture)
        assert picture.revised_prompt == entry.get("revised_prompt")
        given = base64.b64decode(entry["b64_json"]) if "b64_json" in entry else PNG
        assert picture.path.read_bytes() == given
    assert drawn.usage == body.get("usage")
    assert upstream.counts()["received"] == 1 + sum("url" in entry for entry in body["data"])
