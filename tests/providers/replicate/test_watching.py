"""A prediction is watched until it is over, found again by its id, and ended."""

import itertools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from models.errors import (
    JobCancelled,
    LikeDoError,
    ProviderFailed,
    ProviderRefusedUs,
    ProviderTimeout,
)
from net.call import Call
from providers import replicate
from providers.replicate import Replicate
from tests.providers.replicate.drawing import (
    LOOK,
    SDXL,
    SOON,
    begin,
    contents,
    creates,
    draw,
    failure,
    looks,
    resume,
)
from tests.providers.wanted_images import wanted
from tests.upstream import Step, Upstream
from tests.upstream.images import png

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
    assert len(looks(upstream)) == replicate.MAX_UNKNOWN_AT_FIRST + 1


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
