"""Replicate: what is asked, and what comes of it."""

from pathlib import Path
from typing import Any

import pytest

from models.errors import ContentPolicyViolation, LikeDoError, ProviderFailed
from providers.image import Picture
from tests.providers.replicate.drawing import (
    LOOK,
    PRO,
    SDXL,
    SOON,
    contents,
    creates,
    draw,
    failure,
    looks,
)
from tests.providers.wanted_images import wanted
from tests.upstream import Upstream
from tests.upstream.images import base64_png, png

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
