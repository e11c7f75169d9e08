"""Stability AI: forms for its Stable Image models, JSON for engines; filtered images are none."""

import base64
import random
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.catalog.load import catalog
from models.errors import ContentPolicyViolation, InvalidRequest, ProviderFailed
from net import http
from providers import stability
from providers.image import Picture
from tests import recordings
from tests.providers.stability.drawing import CORE, XL, contents, draw, failure, image_step
from tests.providers.wanted_images import wanted
from tests.recordings import Recording
from tests.upstream import Step, Upstream
from tests.upstream.images import base64_png, png


def fields(body: bytes, content_type: str) -> dict[str, str]:
    """Return the fields of a multipart form, as somebody else reads it."""
    head = f"Content-Type: {content_type}\r\n\r\n".encode()
    message = message_from_bytes(head + body, policy=policy.HTTP)
    assert message.get_content_type() == "multipart/form-data"
    parts: list[Any] = list(message.iter_parts())
    assert not any(part.get_filename() for part in parts)
    return {
        part.get_param("name", header="content-disposition"): part.get_payload(decode=True).decode()
        for part in parts
    }


# ---- What is asked


@pytest.mark.parametrize(
    ("model", "place", "told"),
    [
        ("stable-image-core", "core", {}),
        ("stable-image-ultra", "ultra", {}),
        ("sd3.5-large", "sd3", {"model": "sd3.5-large"}),
        ("sd3.5-large-turbo", "sd3", {"model": "sd3.5-large-turbo"}),
        ("sd3.5-medium", "sd3", {"model": "sd3.5-medium"}),
    ],
)
def test_a_stable_image_model_is_asked_with_a_form(
    upstream: Upstream, tmp_path: Path, model: str, place: str, told: dict[str, str]
) -> None:
    request = wanted(prompt="Übermut\n--", aspect_ratio="16:9", output_format="png")

    drawn = draw(tmp_path, request, model)

    [call] = upstream.calls()
    assert call["path"] == f"/stability/v2beta/stable-image/generate/{place}"
    assert call["headers"]["authorization"] == "Bearer sk-test"
    assert call["headers"]["accept"] == "image/*"
    assert fields(call["body"].encode(), call["headers"]["content-type"]) == {
        "prompt": "Übermut\n--",
        "aspect_ratio": "16:9",
        "output_format": "png",
        **told,
    }
    assert contents(drawn) == [png(1344, 768)]


def test_an_engine_is_asked_in_json(upstream: Upstream, tmp_path: Path) -> None:
    drawn = draw(tmp_path, wanted(3, "A cat", width=64, height=32, steps=30), XL)

    [call] = upstream.calls()
    engine = "stable-diffusion-xl-1024-v1-0"
    assert call["path"] == f"/stability/v1/generation/{engine}/text-to-image"
    assert call["headers"]["accept"] == call["headers"]["content-type"] == "application/json"
    assert call["body"] == {
        "text_prompts": [{"text": "A cat", "weight": 1}],
        "samples": 3,
        "width": 64,
        "height": 32,
        "steps": 30,
    }
    assert contents(drawn) == [png(64, 32, place) for place in range(3)]


def test_every_model_of_the_catalogue_has_its_place() -> None:
    routes = [route for model in catalog.images.values() for route in model.routes]
    models = {route.upstream.id for route in routes if route.provider == "stability"}

    assert models - stability.STABLE_IMAGE.keys() == {"stable-diffusion-xl-1024-v1-0"}


WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), min_size=1)


@given(prompt=WORDS, steps=st.integers(), fast=st.booleans())
def test_a_form_says_what_it_was_given(prompt: str, steps: int, fast: bool) -> None:
    body, content_type = http.encode_form({"prompt": prompt, "steps": steps, "fast": fast})

    assert fields(body, content_type) == {
        "prompt": prompt,
        "steps": str(steps),
        "fast": "true" if fast else "false",
    }


def test_what_no_form_can_say_is_the_callers(upstream: Upstream, tmp_path: Path) -> None:
    error = failure(tmp_path, request=wanted(prompt="half \ud83d"))

    assert isinstance(error, InvalidRequest)
    assert error.param == "prompt"
    assert upstream.counts()["received"] == 0


# ---- What comes of it


def test_an_image_may_come_in_json(upstream: Upstream, tmp_path: Path) -> None:
    said = {"image": base64_png(8, 8), "finish_reason": "SUCCESS", "seed": 1}
    upstream.script({"json": said})

    assert contents(draw(tmp_path)) == [png(8, 8)]


def test_images_of_any_size_come_out_of_json(upstream: Upstream, tmp_path: Path) -> None:
    noise = random.Random(5).randbytes(300_000)
    image = base64.b64encode(noise).decode()
    artifacts = [{"base64": image, "finishReason": "SUCCESS"}] * 2
    upstream.script({"json": {"image": image}}, {"json": {"artifacts": artifacts}})

    assert contents(draw(tmp_path)) == [noise]
    assert contents(draw(tmp_path, wanted(2), XL)) == [noise, noise]


def test_artifacts_may_be_a_bare_list(upstream: Upstream, tmp_path: Path) -> None:
    upstream.script({"json": [{"base64": base64_png(8, 8), "finishReason": "SUCCESS"}]})

    assert contents(draw(tmp_path, model=XL)) == [png(8, 8)]


@pytest.mark.parametrize(
    ("step", "model"),
    [
        (image_step(png(8, 8), finish_reason="CONTENT_FILTERED"), CORE),
        ({"json": {"image": base64_png(8, 8), "finish_reason": "CONTENT_FILTERED"}}, CORE),
        ({"json": {"artifacts": [
            {"base64": base64_png(8, 8), "finishReason": "CONTENT_FILTERED"}]}}, XL),
    ],
)  # fmt: skip
def test_a_filtered_image_is_none(
    upstream: Upstream, tmp_path: Path, step: Step, model: str
) -> None:
    upstream.script(step)

    error = failure(tmp_path, model=model)

    assert type(error) is ContentPolicyViolation
    assert not error.nothing_ran
    assert list(tmp_path.iterdir()) == []


def test_each_artifact_is_looked_at(upstream: Upstream, tmp_path: Path) -> None:
    artifacts = [
        {"base64": base64_png(8, 8, place), "finishReason": reason}
        for place, reason in enumerate(["SUCCESS", "CONTENT_FILTERED", "ERROR", "SUCCESS"])
    ]
    upstream.script({"json": {"artifacts": artifacts}})

    drawn = draw(tmp_path, wanted(5), XL)

    assert [type(outcome) for outcome in drawn.pictures] == [
        Picture, ContentPolicyViolation, ProviderFailed, Picture, ProviderFailed,
    ]  # fmt: skip
    assert contents(drawn) == [png(8, 8, 0), png(8, 8, 3)]


@pytest.mark.parametrize(
    ("step", "model"),
    [
        ({"json": {"artifacts": []}}, XL),
        ({"json": {"artifacts": None}}, XL),
        ({"json": []}, XL),
        ({"json": "x"}, XL),
        ({"body": "<html>"}, XL),
        ({"json": {"artifacts": [None, {}, {"base64": 5}]}}, XL),
        ({"json": {"artifacts": [{"base64": "!!!", "finishReason": "SUCCESS"}]}}, XL),
        ({"json": {"artifacts": [{"base64": "é", "finishReason": "SUCCESS"}]}}, XL),
        ({"json": {"artifacts": [{"base64": "", "finishReason": "SUCCESS"}]}}, XL),
        ({"json": {"image": "!!!"}}, CORE),
        ({"json": {"image": ""}}, CORE),
        ({"json": {}}, CORE),
        ({"json": []}, CORE),
        ({"body": "<html>", "headers": {"content-type": "text/html"}}, CORE),
        (image_step(b""), CORE),
        (image_step(png(8, 8), finish_reason="ERROR"), CORE),
    ],
)
def test_an_answer_without_an_image_is_a_failure(
    upstream: Upstream, tmp_path: Path, step: Step, model: str
) -> None:
    upstream.script(step)

    error = failure(tmp_path, model=model)

    assert type(error) is ProviderFailed
    assert not error.nothing_ran


# ---- Recordings


FOUND = recordings.load("stability")


@pytest.mark.parametrize("found", recordings.parameters(list(FOUND), [str(each) for each in FOUND]))
def test_every_recording_comes_out(found: Recording, upstream: Upstream, tmp_path: Path) -> None:
    [exchange] = found.exchanges
    upstream.play(exchange)

    if "empty-artifacts" in found.kinds:
        assert type(failure(tmp_path, model=found.model)) is ProviderFailed
    else:
        [image] = contents(draw(tmp_path, model=found.model))
        assert image.startswith(b"\x89PNG")
    [call] = upstream.calls()
    if "text-to-image" in found.kinds:
        assert call["path"] == "/stability" + exchange["request"]["url"].partition(".ai")[2]
        assert call["body"].keys() <= exchange["request"]["body"].keys() | {"samples"}
