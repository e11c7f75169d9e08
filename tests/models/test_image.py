"""An image request: what is taken, and how what is not is refused."""

from typing import Any

import pytest

from models.errors import InvalidRequest, MissingParameter, UnsupportedParameter
from models.image import ImageRequest, Size

ASKED = {"model": "dall-e-3", "prompt": "A cat."}


def test_what_is_not_said_is_the_documentations_default() -> None:
    request = ImageRequest.read(ASKED)

    assert (request.count, request.size, request.quality) == (1, Size(1024, 1024), "standard")
    assert (request.style, request.response_format, request.output_format) == (None, None, "png")
    assert not request.cancels_on_disconnect


def test_null_says_nothing() -> None:
    request = ImageRequest.read(ASKED | {"n": None, "size": None, "style": None})

    assert (request.count, request.size, request.style) == (1, Size(1024, 1024), None)


@pytest.mark.parametrize("size", ["256x256", "1792x1024", "99999x1"])
def test_a_size_is_a_width_and_a_height(size: str) -> None:
    assert str(ImageRequest.read(ASKED | {"size": size}).size) == size


@pytest.mark.parametrize("size", ["", "256", "256x", "x256", "0x256", "256X256", "256x256x", "²x1"])
def test_anything_else_is_not(size: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        ImageRequest.read(ASKED | {"size": size})

    assert caught.value.param == "size"


@pytest.mark.parametrize(
    "more",
    [{"num_outputs": 4}, {"megapixels": "4"}, {"service_tier": "priority"}, {"tools": [{}]}],
    ids=str,
)
def test_what_would_change_the_cost_has_no_price(more: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedParameter) as caught:
        ImageRequest.read(ASKED | more)

    assert caught.value.param == next(iter(more))
    assert ImageRequest.read(ASKED | {"plugins": [], "models": None}).unknown == {}


@pytest.mark.parametrize("body", [None, [], "dall-e-3", 7])
def test_a_body_is_an_object(body: Any) -> None:
    with pytest.raises(InvalidRequest, match="JSON object"):
        ImageRequest.read(body)


@pytest.mark.parametrize("name", ["model", "prompt"])
def test_model_and_prompt_are_required(name: str) -> None:
    with pytest.raises(MissingParameter) as caught:
        ImageRequest.read({key: value for key, value in ASKED.items() if key != name})

    assert caught.value.param == name


@pytest.mark.parametrize(
    "more",
    [
        {"n": 101},
        {"n": 1.5},
        {"n": "1"},
        {"n": True},
        {"prompt": ["A cat."] * 101},
        {"prompt": "x" * 32_001},
        {"style": "gaudy"},
        {"output_format": "gif"},
        {"output_compression": 101},
        {"background": "blue"},
        {"background": 1},
        {"provider": "deepseek"},
        {"fallbacks": "dall-e-2"},
        {"on_disconnect": "wait"},
    ],
)
def test_what_is_out_of_range_is_refused_by_name(more: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        ImageRequest.read(ASKED | more)

    assert caught.value.param is not None and caught.value.param.split("[")[0] in more


@pytest.mark.parametrize("more", [{"stream": True}, {"partial_images": 2}])
def test_an_image_is_not_streamed(more: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedParameter):
        ImageRequest.read(ASKED | more)


def test_a_background_is_a_backdrop_where_it_is_a_word_and_a_job_where_it_is_true() -> None:
    assert ImageRequest.read(ASKED | {"background": "transparent"}).body["background"]
    assert ImageRequest.read(ASKED | {"background": True}).body["background"] is True


def test_what_is_not_known_is_kept_apart() -> None:
    request = ImageRequest.read(ASKED | {"seed": 7, "user": "u", "key": "lk-secret"})

    assert request.unknown == {"seed": 7}


def test_a_fallback_is_asked_for_the_same_whoever_serves_it() -> None:
    request = ImageRequest.read(ASKED | {"provider": "openai", "n": 3})

    other = request.for_fallback("flux-pro")

    assert (other.model, other.count, other.provider) == ("flux-pro", 3, None)


@pytest.mark.parametrize("more", [{"n": 5}, {"prompt": ["A cat."]}])
def test_more_than_is_waited_for_is_for_who_does_not_wait(more: dict[str, Any]) -> None:
    request = ImageRequest.read(ASKED | more)

    request.check_size(asynchronous=True)
    with pytest.raises(InvalidRequest) as caught:
        request.check_size(asynchronous=False)

    assert caught.value.param in more
