"""Images by OpenAI: asked for once, and what comes is a file or an error in its place."""

from pathlib import Path
from typing import Any

import pytest

from config.catalog.load import catalog
from models.errors import InvalidRequest, LikeDoError, ProviderFailed
from models.image import ImageRequest
from net.call import Call
from providers import image, images
from providers.image import Picture
from providers.openai_images import usage
from providers.wire import result_images
from tests.providers.openai_images.drawing import (
    CANCELLED,
    LARGE,
    PATH,
    PNG,
    Drawing,
    answer,
    base64_of,
    draw,
    failure,
    file,
    files,
    unexpected,
)
from tests.upstream import Step, Upstream

#: The models that have a route of OpenAI's.
OF_OPENAI = sorted(
    name
    for name, model in catalog.images.items()
    if any(route.provider == "openai" for route in model.routes)
)


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
            wanted = image.draw_request(request, route, request.count, tmp_path)
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
