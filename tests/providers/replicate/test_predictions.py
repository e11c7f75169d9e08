"""Replicate: a prediction is begun once, watched until it is over, and found again by its id."""

import itertools
import json
import socket
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.settings import settings
from models.errors import (
    ContentPolicyViolation,
    InvalidRequest,
    JobCancelled,
    LikeDoError,
    ModelGone,
    ProviderBusy,
    ProviderFailed,
    ProviderRefusedUs,
    ProviderTimeout,
)
from net.call import Call
from providers import replicate
from providers.image import Drawn, Picture, Wanted
from providers.replicate import Replicate, image_urls
from providers.wire import result_images
from tests import recordings
from tests.providers.wanted_images import wanted
from tests.recordings import Recording
from tests.upstream import Step, Upstream
from tests.upstream_images import base64_png, png

SCHNELL = "black-forest-labs/flux-schnell"
PRO = "black-forest-labs/flux-pro"
SDXL = "stability-ai/sdxl:7762fd07"

#: The next look at a prediction.
LOOK: Step = {"match": "/predictions/"}
#: A prediction that is over when it is first looked at.
SOON = {"polls": 0}


def nobody(id: str) -> None:
    """Note that work was begun, where no test wants to know."""


def draw(
    folder: Path,
    request: Wanted | None = None,
    model: str = SCHNELL,
    call: Call | None = None,
    started: Any = nobody,
) -> Drawn:
    request = replace(request or wanted(), model=model, folder=folder)
    return Replicate().draw(request, "r8_test", call or Call(20), started)


def resume(id: str, folder: Path, call: Call | None = None) -> Drawn:
    request = replace(wanted(), model=SCHNELL, folder=folder)
    return Replicate().resume(id, request, "r8_test", call or Call(20))


def failure(folder: Path, **more: Any) -> LikeDoError:
    """Return the error that a `draw` ends with."""
    with pytest.raises(LikeDoError) as caught:
        draw(folder, **more)
    return caught.value


def contents(drawn: Drawn) -> list[bytes]:
    """Return the bytes of all images, none of which is missing."""
    return [outcome.path.read_bytes() for outcome in drawn.pictures if isinstance(outcome, Picture)]


def creates(upstream: Upstream) -> list[dict[str, Any]]:
    return [call for call in upstream.calls() if call["path"].endswith("/predictions")]


def looks(upstream: Upstream) -> list[dict[str, Any]]:
    return [
        call
        for call in upstream.calls()
        if call["method"] == "GET" and "/predictions/" in call["path"]
    ]


# ---- What is asked


def test_an_official_model_is_asked_by_its_name(upstream: Upstream, tmp_path: Path) -> None:
    draw(tmp_path, wanted(prompt="A cat", aspect_ratio="1:1", output_format="png"))

    [create] = creates(upstream)
    assert create["path"] == "/replicate/models/black-forest-labs/flux-schnell/predictions"
    assert create["headers"]["authorization"] == "Bearer r8_test"
    assert "prefer" not in create["headers"]
    assert create["body"] == {
        "input": {"prompt": "A cat", "aspect_ratio": "1:1", "output_format": "png"}
    }


def test_another_model_is_asked_by_its_version(upstream: Upstream, tmp_path: Path) -> None:
    draw(tmp_path, wanted(count=2, width=64, height=32), SDXL)

    [create] = creates(upstream)
    assert create["path"] == "/replicate/predictions"
    assert create["body"] == {
        "version": "7762fd07",
        "input": {"prompt": "A quiet harbour", "width": 64, "height": 32, "num_outputs": 2},
    }


def test_looks_and_downloads_take_the_key_no_further(upstream: Upstream, tmp_path: Path) -> None:
    draw(tmp_path)

    *asked, download = upstream.calls()
    assert {call["headers"]["authorization"] for call in asked} == {"Bearer r8_test"}
    assert "authorization" not in download["headers"]


# ---- What comes of it


@pytest.mark.parametrize("count", [1, 2, 4])
def test_each_image_is_in_its_place(upstream: Upstream, tmp_path: Path, count: int) -> None:
    drawn = draw(tmp_path, wanted(count=count, width=64, height=32), SDXL)

    assert contents(drawn) == [png(64, 32, place) for place in range(count)]
    assert len(creates(upstream)) == 1


def test_a_model_may_answer_with_one_address(upstream: Upstream, tmp_path: Path) -> None:
    assert contents(draw(tmp_path, wanted(width=64, height=64), PRO)) == [png(64, 64)]


def test_the_id_is_told_before_anything_else_is_asked(upstream: Upstream, tmp_path: Path) -> None:
    told = []

    draw(tmp_path, started=lambda id: told.append((id, upstream.counts()["received"])))

    [(id, received)] = told
    assert received == 1
    assert {call["path"] for call in looks(upstream)} == {f"/replicate/predictions/{id}"}


@pytest.mark.parametrize("id", [None, 5, "", "../models", "a/b", "a?b", "é", "a" * 200])
def test_an_id_that_is_no_part_of_a_path_is_never_used(
    upstream: Upstream, tmp_path: Path, id: Any
) -> None:
    upstream.script({"status": 201, "json": {"id": id, "status": "starting"}})
    told: list[str] = []

    error = failure(tmp_path, started=told.append)

    assert type(error) is ProviderFailed
    assert not error.nothing_ran
    assert (told, upstream.counts()["received"]) == ([], 1)


def test_a_prediction_may_be_over_when_it_is_begun(upstream: Upstream, tmp_path: Path) -> None:
    done = {"id": "abc", "status": "succeeded", "output": [f"{upstream.url}/files/0-8x8.png"]}
    upstream.script({"status": 201, "json": done})

    assert contents(draw(tmp_path)) == [png(8, 8)]
    assert looks(upstream) == []


def test_what_is_there_is_taken_whatever_the_status(upstream: Upstream, tmp_path: Path) -> None:
    output = [f"{upstream.url}/files/0-8x8.png"]
    upstream.script(LOOK | {"json": {"status": "processing", "output": output}})

    assert contents(draw(tmp_path)) == [png(8, 8)]
    assert len(looks(upstream)) == 1


def test_images_that_come_one_by_one_are_waited_for(upstream: Upstream, tmp_path: Path) -> None:
    output = [f"{upstream.url}/files/0-8x8.png"]
    upstream.script(LOOK | {"json": {"status": "processing", "output": output}})

    drawn = draw(tmp_path, wanted(count=2, width=64, height=64), SDXL)

    assert contents(drawn) == [png(64, 64, 0), png(64, 64, 1)]


def test_an_unknown_status_is_one_of_work(upstream: Upstream, tmp_path: Path) -> None:
    upstream.script(*(LOOK | {"json": {"status": status}} for status in ("pondering", None, 5)))

    assert len(contents(draw(tmp_path))) == 1
    assert len(creates(upstream)) == 1


def test_an_image_may_be_in_the_answer(upstream: Upstream, tmp_path: Path) -> None:
    output = f"data:image/png;base64,{base64_png(8, 8)}"
    upstream.script({"prediction": SOON | {"output": output}})

    assert contents(draw(tmp_path)) == [png(8, 8)]


def test_images_that_are_missing_are_errors_in_their_place(
    upstream: Upstream, tmp_path: Path
) -> None:
    output = [f"{upstream.url}/files/0-8x8.png"]
    upstream.script({"prediction": SOON | {"output": output}})

    there, *missing = draw(tmp_path, wanted(count=3), SDXL).pictures

    assert isinstance(there, Picture)
    assert [type(error) for error in missing] == [ProviderFailed, ProviderFailed]


def test_a_failed_run_may_have_made_some(upstream: Upstream, tmp_path: Path) -> None:
    output = [f"{upstream.url}/files/0-8x8.png"]
    ended = {"status": "failed", "output": output, "error": "NSFW content detected."}
    upstream.script(LOOK | {"json": ended})

    there, missing = draw(tmp_path, wanted(count=2), SDXL).pictures

    assert isinstance(there, Picture)
    assert isinstance(missing, ContentPolicyViolation)


def test_more_images_than_were_asked_for_are_left(upstream: Upstream, tmp_path: Path) -> None:
    output = [f"{upstream.url}/files/{place}-8x8.png" for place in range(3)]
    upstream.script({"prediction": SOON | {"output": output}})

    assert contents(draw(tmp_path)) == [png(8, 8)]
    assert [call["path"] for call in upstream.calls()][-1] == "/files/0-8x8.png"
    assert upstream.counts()["received"] == 3


def test_one_image_that_is_not_there_does_not_cost_the_others(
    upstream: Upstream, tmp_path: Path
) -> None:
    output = [f"{upstream.url}/{name}" for name in ("gone", "files/1-8x8.png")]
    upstream.script({"prediction": SOON | {"output": output}})

    gone, there = draw(tmp_path, wanted(count=2), SDXL).pictures

    assert isinstance(gone, ProviderFailed)
    assert isinstance(there, Picture)


@pytest.mark.parametrize(
    "ended",
    [
        {"output": None},
        {"output": None, "data_removed": True},
        {"output": []},
        {"output": ["Once", " upon", " a time"]},
        {"output": {"seed": 5}},
        {},
    ],
)
def test_a_success_without_an_image_is_none(
    upstream: Upstream, tmp_path: Path, ended: dict[str, Any]
) -> None:
    upstream.script(LOOK | {"json": {"status": "succeeded"} | ended})

    error = failure(tmp_path)

    assert type(error) is ProviderFailed
    assert not error.nothing_ran


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("NSFW content detected. Try running it again, or try a different prompt.",
         ContentPolicyViolation),
        ("The input or output was flagged as sensitive. (E005)", ContentPolicyViolation),
        ("Blocked by the safety checker", ContentPolicyViolation),
        ("Prediction interrupted; please retry (code: PA)", ProviderFailed),
        ("CUDA out of memory", ProviderFailed),
    ],
)  # fmt: skip
def test_a_failed_run_says_why(
    upstream: Upstream, tmp_path: Path, said: str, kind: type[LikeDoError]
) -> None:
    upstream.script({"prediction": SOON | {"ends": "failed", "error": said}})

    error = failure(tmp_path)

    assert type(error) is kind
    assert said in error.message
    assert not error.nothing_ran


def test_what_a_failed_run_says_is_short_and_holds_no_key(
    upstream: Upstream, tmp_path: Path
) -> None:
    said = "No access for r8_0123456789abcdef: " + "x" * 10_000
    upstream.script({"prediction": SOON | {"ends": "failed", "error": said}})

    message = failure(tmp_path).message

    assert "r8_" not in message
    assert len(message) < 600


@pytest.mark.parametrize("said", [None, {"code": 5}, ["x"]])
def test_a_failed_run_may_say_nothing(upstream: Upstream, tmp_path: Path, said: Any) -> None:
    upstream.script(LOOK | {"json": {"status": "failed", "error": said}})

    assert failure(tmp_path).message == "replicate failed."


@pytest.mark.parametrize("status", ["canceled", "aborted"])
def test_what_was_ended_from_outside_has_failed(
    upstream: Upstream, tmp_path: Path, status: str
) -> None:
    upstream.script({"prediction": SOON | {"ends": status}})

    error = failure(tmp_path)

    assert type(error) is ProviderFailed
    assert status in error.message


# ---- It is begun once


@pytest.mark.parametrize(
    "step",
    [
        {"cut": -1},
        {"status": 201, "cut": 5},
        {"status": 500, "json": {"detail": "Internal error", "status": 500}},
        {"status": 502, "body": "<html>Bad gateway</html>"},
        {"status": 503, "json": {"detail": "Unavailable"}, "headers": {"retry-after": "0"}},
        {"status": 201, "body": "<html>Hello</html>"},
        {"status": 302, "headers": {"location": "/replicate/predictions"}},
    ],
)
def test_what_may_have_been_begun_is_not_begun_again(
    upstream: Upstream, tmp_path: Path, step: Step
) -> None:
    upstream.script(step)

    error = failure(tmp_path)

    assert isinstance(error, ProviderFailed)
    assert not error.nothing_ran
    assert upstream.counts()["received"] == 1


def test_an_answer_that_does_not_come_is_not_asked_for_again(
    upstream: Upstream, tmp_path: Path
) -> None:
    upstream.script({"delay": 60})

    error = failure(tmp_path, call=Call(1))

    assert isinstance(error, ProviderTimeout)
    assert not error.nothing_ran
    assert upstream.counts()["received"] == 1


def test_a_kept_connection_is_not_trusted_with_it(upstream: Upstream, tmp_path: Path) -> None:
    draw(tmp_path)
    upstream.script({"cut": -1})

    error = failure(tmp_path)

    assert not error.nothing_ran
    assert len(creates(upstream)) == 2


def test_what_nobody_heard_has_begun_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    monkeypatch.setattr(settings, "replicate_base_url", f"http://127.0.0.1:{port}")

    error = failure(tmp_path)

    assert isinstance(error, ProviderFailed)
    assert error.nothing_ran


PROBLEM = {"content-type": "application/problem+json"}


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (401, {"title": "Unauthenticated", "detail": "You did not pass a valid token"},
         ProviderRefusedUs),
        (402, {"title": "Insufficient credit", "detail": "You have insufficient credit."},
         ProviderRefusedUs),
        (404, {"detail": "The requested resource could not be found."}, ModelGone),
        (422, {"title": "Invalid version or not permitted", "detail": "The specified version does "
          "not exist (or perhaps you don't have permission to use it?)"}, ModelGone),
        (422, {"title": "Input validation failed", "detail": "- input.prompt: is required\n"},
         InvalidRequest),
        (429, {"detail": "Request was throttled. Expected available in 3 seconds."},
         ProviderBusy),
    ],
)  # fmt: skip
def test_a_refusal_has_begun_nothing(
    upstream: Upstream, tmp_path: Path, status: int, body: Any, kind: type[LikeDoError]
) -> None:
    upstream.script({"status": status, "json": body | {"status": status}, "headers": PROBLEM})

    error = failure(tmp_path)

    assert type(error) is kind
    assert error.nothing_ran
    assert upstream.counts()["received"] == 1


def test_a_busy_provider_says_how_long(upstream: Upstream, tmp_path: Path) -> None:
    said = {"detail": "Request was throttled. Your rate limit resets in ~30s."}
    upstream.script(
        {"status": 429, "json": said, "headers": PROBLEM | {"ratelimit-reset": "12"}},
        {"status": 429, "json": {}, "headers": PROBLEM | {"ratelimit-reset": "12"}},
    )

    assert [failure(tmp_path).stated_delay for _ in range(2)] == [30, 12]


# ---- It is watched until it is over


def test_looks_become_rarer() -> None:
    pauses = list(itertools.islice(replicate.pauses(), 20))

    assert pauses[0] == replicate.FIRST_PAUSE_SECONDS
    assert pauses == sorted(pauses)
    assert pauses[1] > pauses[0]
    assert pauses[-1] == pauses[-2] == replicate.MAX_PAUSE_SECONDS


@pytest.mark.parametrize(
    "steps",
    [
        [{"status": 404, "json": {}}] * 2,
        [{"status": 500, "json": {"detail": "Internal error"}}],
        [{"status": 503, "body": "<html>", "headers": {"retry-after": "0"}}],
        [{"status": 429, "json": {}, "headers": {"retry-after-ms": "1"}}],
        [{"status": 302, "headers": {"location": "/elsewhere"}}],
        [{"cut": -1}],
        [{"body": '{"status": "succeeded"', "cut": 5}],
        [{"body": "<html>Just a moment</html>"}],
        [{"json": ["succeeded"]}],
    ],
)
def test_a_look_that_fails_is_not_the_end(
    upstream: Upstream, tmp_path: Path, steps: list[Step]
) -> None:
    upstream.script(*(LOOK | step for step in steps), {"prediction": SOON})

    assert len(contents(draw(tmp_path))) == 1
    assert len(creates(upstream)) == 1


@pytest.mark.parametrize("status", [429, 503])
def test_no_look_is_put_off_for_long(
    upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setattr(replicate, "MAX_DELAY_SECONDS", 0.2)
    step = {"match": "/predictions/", "status": status, "headers": {"retry-after": "3600"}}
    upstream.script(step, {"prediction": SOON})

    assert len(contents(draw(tmp_path))) == 1


def test_a_state_that_is_no_word_says_nothing(upstream: Upstream, tmp_path: Path) -> None:
    upstream.script(LOOK | {"json": {"status": ["succeeded"]}}, {"prediction": SOON})

    assert len(contents(draw(tmp_path))) == 1


def test_a_busy_provider_is_left_alone_as_long_as_it_asks(
    upstream: Upstream, tmp_path: Path
) -> None:
    upstream.script(
        default={"match": "/predictions/", "status": 429, "headers": {"retry-after": "3600"}}
    )
    upstream.script({"status": 201, "json": {"id": "abc", "status": "starting"}})

    error = failure(tmp_path, call=Call(2))

    assert isinstance(error, ProviderTimeout)
    assert len(looks(upstream)) == 1


def test_what_stays_unknown_is_lost(upstream: Upstream, tmp_path: Path) -> None:
    upstream.script(default=LOOK | {"status": 404, "json": {}})
    upstream.script({"status": 201, "json": {"id": "abc", "status": "starting"}})

    error = failure(tmp_path)

    assert type(error) is ProviderFailed
    assert not error.nothing_ran
    assert len(looks(upstream)) == replicate.UNKNOWN_AT_FIRST + 1


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, ProviderFailed),
        (401, ProviderRefusedUs),
        (410, ProviderFailed),
        (422, ProviderFailed),
    ],
)
def test_a_refusal_that_comes_later_is_no_callers_and_no_free_try(
    upstream: Upstream, tmp_path: Path, status: int, kind: type[LikeDoError]
) -> None:
    upstream.script(LOOK | {"status": status, "json": {"detail": "No."}})

    error = failure(tmp_path)

    assert type(error) is kind
    assert not error.nothing_ran
    assert len(looks(upstream)) == 1


def test_the_deadline_ends_it(upstream: Upstream, tmp_path: Path) -> None:
    upstream.script({"prediction": {"hold": True}})

    assert isinstance(failure(tmp_path, call=Call(1)), ProviderTimeout)
    assert len(creates(upstream)) == 1


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as executor:
        yield executor


def test_a_call_that_is_ended_ends_at_once_and_cancels_nothing(
    upstream: Upstream, tmp_path: Path, pool: ThreadPoolExecutor
) -> None:
    upstream.script({"prediction": {"hold": True}})
    call, reason = Call(20), JobCancelled("Enough.")
    drawing = pool.submit(draw, tmp_path, call=call)
    upstream.wait(received=2)

    call.abort(reason)

    assert drawing.exception() is reason
    assert not any(call["path"].endswith("/cancel") for call in upstream.calls())


def test_a_look_that_is_on_its_way_is_ended_too(
    upstream: Upstream, tmp_path: Path, pool: ThreadPoolExecutor
) -> None:
    upstream.script(LOOK | {"delay": 60})
    call, reason = Call(20), JobCancelled("Enough.")
    drawing = pool.submit(draw, tmp_path, call=call)
    upstream.wait(received=2)

    call.abort(reason)

    assert drawing.exception() is reason
    upstream.wait(aborted=1)


@pytest.mark.parametrize("step", [{"delay": 60}, {"body_delay": 60}])
def test_an_image_that_is_on_its_way_is_let_go(
    upstream: Upstream, tmp_path: Path, pool: ThreadPoolExecutor, step: Step
) -> None:
    upstream.script({"match": "/files/", **step}, {"prediction": SOON})
    call, reason = Call(20), JobCancelled("Enough.")
    drawing = pool.submit(draw, tmp_path, wanted(count=2), SDXL, call=call)
    upstream.wait(received=4)

    call.abort(reason)

    assert drawing.exception() is reason


# ---- It is found again


def test_who_comes_back_finds_what_was_begun(
    upstream: Upstream, tmp_path: Path, pool: ThreadPoolExecutor
) -> None:
    upstream.script({"prediction": {"hold": True}})
    told: list[str] = []
    call = Call(20)
    drawing = pool.submit(draw, tmp_path, call=call, started=told.append)
    upstream.wait(received=2)
    call.abort(JobCancelled("The worker goes."))
    assert drawing.exception() is not None

    upstream.release()
    drawn = resume(told[0], tmp_path)

    assert len(contents(drawn)) == 1
    assert len(creates(upstream)) == 1
    assert {call["path"] for call in looks(upstream)} == {f"/replicate/predictions/{told[0]}"}


def test_what_is_over_is_looked_at_once(upstream: Upstream, tmp_path: Path) -> None:
    done = {"status": "succeeded", "output": f"{upstream.url}/files/0-8x8.png"}
    upstream.script(LOOK | {"json": done})

    assert contents(resume("abc", tmp_path)) == [png(8, 8)]
    assert upstream.counts()["received"] == 2


@pytest.mark.parametrize(("id", "asked"), [("forgotten", 1), ("../elsewhere", 0)])
def test_what_is_forgotten_is_lost(upstream: Upstream, tmp_path: Path, id: str, asked: int) -> None:
    with pytest.raises(ProviderFailed) as caught:
        resume(id, tmp_path)

    assert type(caught.value) is ProviderFailed
    assert not caught.value.nothing_ran
    assert upstream.counts()["received"] == len(looks(upstream)) == asked


# ---- It is ended


def begin(upstream: Upstream, folder: Path, pool: ThreadPoolExecutor) -> str:
    """Return the id of what nobody watches any more, and is at work."""
    upstream.script({"prediction": {"hold": True}})
    told: list[str] = []
    call = Call(20)
    drawing = pool.submit(draw, folder, call=call, started=told.append)
    upstream.wait(received=2)
    call.abort(JobCancelled("Enough."))
    drawing.exception()
    return told[0]


def test_what_nobody_wants_is_ended(
    upstream: Upstream, tmp_path: Path, pool: ThreadPoolExecutor
) -> None:
    id = begin(upstream, tmp_path, pool)

    Replicate().cancel(id, "r8_test", Call(20))

    last = upstream.calls()[-1]
    assert (last["method"], last["path"]) == ("POST", f"/replicate/predictions/{id}/cancel")
    assert last["headers"]["authorization"] == "Bearer r8_test"
    with pytest.raises(ProviderFailed, match="canceled"):
        resume(id, tmp_path)


@pytest.mark.parametrize(
    ("id", "step", "kind"),
    [
        ("forgotten", {"status": 404, "json": {}}, ProviderFailed),
        ("abc", {"status": 500, "json": {}}, ProviderFailed),
        ("abc", {"status": 401, "json": {}}, ProviderRefusedUs),
        ("abc", {"status": 422, "json": {}}, ProviderFailed),
        ("abc", {"cut": -1}, ProviderFailed),
        ("../models", {}, ProviderFailed),
    ],
)
def test_who_ends_it_hears_where_that_fails(
    upstream: Upstream, id: str, step: Step, kind: type[LikeDoError]
) -> None:
    upstream.script(step)

    with pytest.raises(ProviderFailed) as caught:
        Replicate().cancel(id, "r8_test", Call(20))

    assert type(caught.value) is kind


# ---- The forms of an output

ADDRESSES = st.sampled_from(["https://a.example/0.png", "http://b.example/1", "data:image/png;,"])
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | ADDRESSES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["url", "images", "seed"]), inner, max_size=3)
    ),
)


@given(ANYTHING)
def test_no_form_of_an_output_is_too_odd(output: Any) -> None:
    found = image_urls(output)

    assert Counter(found) <= Counter(addresses_in(output))


def addresses_in(value: Any) -> Iterator[str]:
    """Yield every address anywhere in `value`."""
    if isinstance(value, str) and value.startswith(("https://", "http://", "data:")):
        yield value
    within = value.values() if isinstance(value, dict) else value
    for inner in within if isinstance(value, dict | list) else ():
        yield from addresses_in(inner)


@given(st.lists(ADDRESSES | st.none() | st.text(alphabet="ab ")))
def test_a_lists_addresses_keep_their_order(output: list[str | None]) -> None:
    assert image_urls(output) == [item for item in output if item and ":" in item]


@given(ADDRESSES)
def test_one_address_may_be_alone_or_in_an_object(url: str) -> None:
    forms = [url, [url], {"url": url}, {"images": [url], "seed": 5}, {"images": [{"url": url}]}]

    assert [image_urls(form) for form in forms] == [[url]] * len(forms)


# ---- Recordings

#: What is not passed through here, and why.
LEFT_OUT = {
    "prefer-wait-official-model-llama-01": "a language model's text, and a header that is not sent",
    "stream-llama-01": "a language model's text, as a stream that is not read",
    "error-404-problem-json-01": "passed through as a refusal of a create, below",
    "error-404-text-plain-01": "passed through as a refusal of a create, below",
    "error-401-invalid-token-01": "passed through as a refusal of a create, below",
    "download-image-01": "passed through as a download, below",
    "flux-examples-collection-01": "a list of models; their examples' outputs are read, below",
    "cancel-01": "passed through with its end, below",
    "create-starting-01": "passed through with the looks of the next, below",
    "get-succeeded-01": "passed through with the one before, below",
}
FOUND = {recording.case: recording for recording in recordings.load("replicate")}
WHOLE = [recording for case, recording in FOUND.items() if case not in LEFT_OUT]


def needs(*cases: str) -> list[Recording]:
    """Return the recordings of these cases; skip where they are not there."""
    if not FOUND:
        pytest.skip("There are no recordings beside the repository.")
    return [FOUND[case] for case in cases]


def is_create(exchange: dict[str, Any]) -> bool:
    request = exchange["request"]
    return (request["method"], request["url"].endswith("/predictions")) == ("POST", True)


def as_steps(upstream: Upstream, exchanges: list[dict[str, Any]]) -> list[Step]:
    """Return the steps that answer as recorded, files being the upstream's own.

    What `urls` says leads to Replicate still, and nobody goes there.
    """
    steps = []
    for exchange in exchanges:
        path = exchange["request"]["url"].partition("/v1")[2]
        response = exchange["response"]
        body = response["body"].replace("https://replicate.delivery/", f"{upstream.url}/files/")
        steps.append({"match": path, "status": response["status"], "body": body})
    # A poll finds its own step before it finds one that is for every path with its beginning.
    return sorted(steps, key=lambda step: len(step["match"]), reverse=True)


def drawn_as_recorded(exchange: dict[str, Any], folder: Path) -> Drawn:
    """Draw what the `exchange` asked for."""
    body = exchange["request"]["body"]
    sent = dict(body["input"])
    request = wanted(prompt=sent.pop("prompt"), **sent)
    return draw(folder, request, model_of(exchange))


def model_of(exchange: dict[str, Any]) -> str:
    url, body = str(exchange["request"]["url"]), exchange["request"]["body"]
    if "/models/" in url:
        return url.partition("/models/")[2].removesuffix("/predictions")
    return f"{json.loads(exchange['response']['body'])['model']}:{body['version']}"


def without_webhook(body: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name != "webhook"}


@pytest.mark.parametrize("recording", recordings.parameters(WHOLE, [str(each) for each in WHOLE]))
def test_every_recorded_prediction_comes_out(
    recording: Recording,
    upstream: Upstream,
    tmp_path: Path,
    pool: ThreadPoolExecutor,
) -> None:
    begun = [exchange for exchange in recording.exchanges if is_create(exchange)]
    asked = [each for each in recording.exchanges if "/predictions" in each["request"]["url"]]
    upstream.script(*as_steps(upstream, asked))

    drawn = list(pool.map(lambda exchange: drawn_as_recorded(exchange, tmp_path), begun))

    assert all(len(contents(each)) == 1 for each in drawn)
    sent = [call["body"] for call in creates(upstream)]
    recorded = [without_webhook(exchange["request"]["body"]) for exchange in begun]
    assert sorted(sent, key=json.dumps) == sorted(recorded, key=json.dumps)


def test_every_recording_is_passed_through_or_left_out_for_a_reason() -> None:
    needs()

    assert FOUND.keys() >= LEFT_OUT.keys()
    assert all("create" in recording.kinds for recording in WHOLE)


def test_a_recorded_prediction_is_found_again(upstream: Upstream, tmp_path: Path) -> None:
    starting, succeeded = needs("create-starting-01", "get-succeeded-01")
    exchanges = [starting.exchanges[0], *succeeded.exchanges]
    upstream.script(*as_steps(upstream, exchanges))
    told: list[str] = []

    first = draw(tmp_path, started=told.append, model=SDXL)
    second = resume(told[0], tmp_path)

    assert [len(contents(drawn)) for drawn in (first, second)] == [1, 1]
    assert len(creates(upstream)) == 1


def test_a_recorded_prediction_is_ended(upstream: Upstream, tmp_path: Path) -> None:
    [recording] = needs("cancel-01")
    upstream.script(*as_steps(upstream, list(recording.exchanges)))
    call = Call(20)

    def started(id: str) -> None:
        call.abort(JobCancelled("Enough."))
        Replicate().cancel(id, "r8_test", Call(20))

    assert isinstance(failure(tmp_path, model=SDXL, call=call, started=started), JobCancelled)
    assert upstream.counts()["received"] == len(recording.exchanges)


@pytest.mark.parametrize(
    ("case", "kind"),
    [
        ("error-401-invalid-token-01", ProviderRefusedUs),
        ("error-404-problem-json-01", ModelGone),
        ("error-404-text-plain-01", ModelGone),
    ],
)
def test_a_recorded_refusal_is_ours(
    case: str, kind: type[LikeDoError], upstream: Upstream, tmp_path: Path
) -> None:
    [recording] = needs(case)
    upstream.play(recording.exchanges[0])

    error = failure(tmp_path)

    assert type(error) is kind
    assert error.nothing_ran


def test_a_recorded_file_is_fetched(upstream: Upstream, tmp_path: Path) -> None:
    [recording] = needs("download-image-01")
    upstream.play(recording.exchanges[0])

    path = result_images.download(Call(20), f"{upstream.url}/x.png", tmp_path, upstream.url)

    assert path.read_bytes().startswith(b"\x89PNG")


def test_the_examples_of_flux_have_addresses() -> None:
    [recording] = needs("flux-examples-collection-01")
    collection = json.loads(recording.exchanges[0]["response"]["body"])
    examples = [model["default_example"] for model in collection["models"]]

    found = [image_urls(example["output"]) for example in examples if example]

    assert found
    assert all(url.startswith("https://") for urls in found for url in urls)
    assert all(urls for urls in found)
