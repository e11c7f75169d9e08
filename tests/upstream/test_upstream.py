"""The tests' own provider draws what it is asked for: others' tests stand on that."""

import base64
import http.client
import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
from PIL import Image
from urllib3 import encode_multipart_formdata

from tests.upstream import Upstream
from tests.upstream.images import png


@pytest.fixture
def drawing(shared_upstream: Upstream) -> Iterator[Upstream]:
    shared_upstream.reset()
    yield shared_upstream
    shared_upstream.reset()


def ask(
    upstream: Upstream, method: str, path: str, body: bytes = b"", **headers: str
) -> tuple[int, bytes]:
    """Return the status and the body of an answer; `path` may be a whole URL."""
    connection = http.client.HTTPConnection("127.0.0.1", upstream.port, timeout=30)
    told = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path.removeprefix(upstream.url), body, told)
    response = connection.getresponse()
    try:
        return response.status, response.read()
    finally:
        connection.close()


def post(upstream: Upstream, path: str, body: Any) -> Any:
    return json.loads(ask(upstream, "POST", path, json.dumps(body).encode())[1])


def look(upstream: Upstream, prediction: dict[str, Any]) -> Any:
    return json.loads(ask(upstream, "GET", prediction["urls"]["get"])[1])


def form_of(data: bytes) -> tuple[str | None, tuple[int, int]]:
    """Return the format and the size of an image that can be read to its end."""
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        return image.format, image.size


def test_openais_images_have_the_size_asked_for(drawing: Upstream) -> None:
    answer = post(drawing, "/v1/images/generations", {"n": 3, "size": "32x16"})

    images = [base64.b64decode(each["b64_json"]) for each in answer["data"]]
    assert [form_of(image) for image in images] == [("PNG", (32, 16))] * 3
    assert len(set(images)) == 3


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("/any/files/x.png", ("PNG", (1024, 1024))),
        ("/any/files/a/b-2-64x32.png", ("PNG", (64, 32))),
        ("/any/files/x.jpg", ("JPEG", (8, 8))),
        ("/any/files/x.webp", ("WEBP", (8, 8))),
    ],
)
def test_files_are_images(drawing: Upstream, path: str, form: tuple[str, tuple[int, int]]) -> None:
    status, data = ask(drawing, "GET", path)

    assert (status, form_of(data)) == (200, form)


def test_a_prediction_goes_its_way(drawing: Upstream) -> None:
    given = {"num_outputs": 2, "width": 64, "height": 32}
    begun = post(drawing, "/v1/predictions", {"version": "abc", "input": given})

    seen = [look(drawing, begun) for _ in range(3)]

    statuses = [begun["status"], *(each["status"] for each in seen)]
    assert statuses == ["starting", "processing", "succeeded", "succeeded"]
    files = [ask(drawing, "GET", url)[1] for url in seen[-1]["output"]]
    assert files == [png(64, 32, 0), png(64, 32, 1)]


@pytest.mark.parametrize(
    ("given", "size"),
    [
        ({}, (1024, 1024)),
        ({"aspect_ratio": "16:9"}, (1344, 768)),
        ({"aspect_ratio": "1:1", "megapixels": "0.25"}, (512, 512)),
        ({"aspect_ratio": "custom", "width": 96, "height": 32}, (96, 32)),
    ],
)
def test_one_model_answers_with_one_url(
    drawing: Upstream, given: dict[str, Any], size: tuple[int, int]
) -> None:
    drawing.script({"prediction": {"polls": 0}})
    path = "/v1/models/black-forest-labs/flux-1.1-pro/predictions"

    output = look(drawing, post(drawing, path, {"input": given}))["output"]

    assert form_of(ask(drawing, "GET", output)[1]) == ("PNG", size)


def test_a_step_says_how_a_prediction_goes(drawing: Upstream) -> None:
    drawing.script({"prediction": {"polls": 2, "ends": "failed", "error": "Out of memory"}})
    begun = post(drawing, "/v1/predictions", {"input": {}})

    seen = [look(drawing, begun) for _ in range(3)]

    assert [each["status"] for each in seen] == ["processing", "processing", "failed"]
    assert (seen[-1]["error"], seen[-1]["output"]) == ("Out of memory", None)


def test_a_prediction_is_held_until_it_is_released(drawing: Upstream) -> None:
    drawing.script(default={"prediction": {"hold": True, "polls": 0, "output": "text"}})
    begun = [post(drawing, "/v1/predictions", {"input": {}}) for _ in range(2)]
    held = [look(drawing, each)["status"] for each in begun * 2]

    drawing.release()

    assert held == ["processing"] * 4
    assert [look(drawing, each)["output"] for each in begun] == ["text"] * 2


def test_a_prediction_can_be_cancelled_while_it_runs(drawing: Upstream) -> None:
    begun = post(drawing, "/v1/predictions", {"input": {}})

    post(drawing, begun["urls"]["cancel"], {})

    assert look(drawing, begun)["status"] == "canceled"


def test_nobody_finds_what_was_forgotten(drawing: Upstream) -> None:
    begun = post(drawing, "/v1/predictions", {"input": {}})

    drawing.reset()

    assert ask(drawing, "GET", begun["urls"]["get"])[0] == 404
    assert post(drawing, "/v1/predictions", {"input": {}})["id"] != begun["id"]


def test_a_step_without_a_body_spoils_what_is_drawn(drawing: Upstream) -> None:
    drawing.script({"match": "/files/", "cut": 10}, {"status": 500})

    with pytest.raises(http.client.IncompleteRead):
        ask(drawing, "GET", "/files/x.png")
    assert ask(drawing, "POST", "/v1/images/generations", b"{}")[0] == 500


@pytest.mark.parametrize("place", ["core", "ultra", "sd3"])
def test_stable_images_are_asked_for_with_a_form(drawing: Upstream, place: str) -> None:
    path = f"/v2beta/stable-image/generate/{place}"
    body, kind = encode_multipart_formdata({"prompt": "Grüße", "aspect_ratio": "3:2"})

    _, data = ask(drawing, "POST", path, body, content_type=kind, accept="image/*")
    _, told = ask(drawing, "POST", path, body, content_type=kind, accept="application/json")

    assert form_of(data) == ("PNG", (1216, 832))
    assert base64.b64decode(json.loads(told)["image"]) == data
    assert "Grüße" in drawing.calls()[0]["body"]
    assert ask(drawing, "POST", path, b'{"prompt": "No form"}')[0] == 400


def test_an_engine_answers_with_artifacts(drawing: Upstream) -> None:
    given = {"samples": 2, "width": 64, "height": 32}

    artifacts = post(drawing, "/v1/generation/xl/text-to-image", given)["artifacts"]

    images = [base64.b64decode(each["base64"]) for each in artifacts]
    assert [form_of(image) for image in images] == [("PNG", (64, 32))] * 2
