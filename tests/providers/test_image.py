"""What is asked of a provider for what a caller wants: sizes, qualities, styles, as data."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

import providers
from config.catalog.load import catalog
from config.catalog.model import FreeSizes, ImageRoute, ImageUpstream
from models.errors import InvalidRequest, UnsupportedParameter
from models.image import ImageRequest, Size
from providers import image

SQUARES = {"512x512": {"px": 512}, "1024x1024": {"px": 1024}}
FREE = FreeSizes(
    sends={"width": "{width}", "height": "{height}", "of": "{width} by {height}", "fit": True},
    multiple_of=32,
    longest_side=1440,
    most_aspect=Fraction(4),
    least_pixels=262_144,
    most_pixels=1_500_000,
)


def upstream(**facts: Any) -> ImageUpstream:
    known: dict[str, Any] = {"sizes": SQUARES, "qualities": {"standard": {"steps": 25}}}
    return ImageUpstream(provider="replicate", id="some/model", **known | facts)


def request(**more: Any) -> ImageRequest:
    return ImageRequest.read({"model": "some-model", "prompt": "A cat."} | more)


def check(asked: ImageRequest, route: ImageRoute) -> None:
    providers.images[route.provider].check(asked, route)


@pytest.mark.parametrize(
    ("asked", "made"),
    [
        ("256x256", "512x512"),
        ("512x512", "512x512"),
        ("1024x1024", "1024x1024"),
        ("768x768", None),
        ("1024x768", None),
    ],
)
def test_a_size_is_made_as_the_nearest_larger_one(asked: str, made: str | None) -> None:
    found = image.native_size(Size.read(asked), upstream())

    assert (str(found) if found else None) == made


def test_of_the_larger_ones_a_square_is_nearest_to_a_square() -> None:
    wide = upstream(sizes={"640x512": {}, "1024x1024": {}})

    assert image.native_size(Size(256, 256), wide) == Size(1024, 1024)


def test_where_no_square_is_as_large_the_smallest_that_holds_it_is_made() -> None:
    wide = upstream(sizes={"1536x1024": {}, "1280x1024": {}, "512x512": {}})

    assert image.native_size(Size(1024, 1024), wide) == Size(1280, 1024)


@pytest.mark.parametrize(
    ("size", "is_made"),
    [
        ("768x768", True),
        ("1440x1024", True),
        ("768x770", False),  # No multiple of 32.
        ("1472x512", False),  # Too long.
        ("1440x352", False),  # Too slim.
        ("480x512", False),  # Too small.
        ("1440x1056", False),  # Too large.
    ],
)
def test_free_sizes_have_limits(size: str, is_made: bool) -> None:
    found = image.native_size(Size.read(size), upstream(free_sizes=FREE))

    assert (found is not None) == is_made


def test_what_is_sent_is_what_the_catalogue_says() -> None:
    facts = upstream(
        free_sizes=FREE,
        qualities={"standard": {"steps": 25}, "hd": {"steps": 50}},
        styles={"natural": {"look": "plain"}},
        sends={"output_format": "png"},
    )
    asked = request(size="1440x1024", quality="hd", style="natural")

    wanted = image.draw_request(asked, ImageRoute(upstream=facts), 2, Path())

    assert (wanted.prompt, wanted.count) == ("A cat.", 2)
    assert wanted.parameters == {
        "output_format": "png",
        "steps": 50,
        "look": "plain",
        "width": 1440,
        "height": 1024,
        "of": "1440 by 1024",
        "fit": True,
    }


def test_a_route_may_know_better_than_its_model() -> None:
    route = ImageRoute(
        upstream=upstream(),
        qualities={"hd": {"steps": 90}},
        style_prompts={"vivid": "Make it loud."},
    )

    wanted = image.draw_request(request(quality="hd", style="vivid"), route, 1, Path())

    assert wanted.parameters["steps"] == 90
    assert wanted.prompt == "A cat.\n\nMake it loud."


@pytest.mark.parametrize(
    "more",
    [
        {"size": "300x300"},
        {"quality": "hd"},
        {"quality": "auto"},
        {"style": "vivid"},
        {"background": "opaque"},
        {"moderation": "low"},
        {"negative_prompt": "dogs"},
    ],
)
def test_what_a_route_cannot_honour_is_refused_by_name(more: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedParameter) as caught:
        check(request(**more), ImageRoute(upstream=upstream()))

    assert caught.value.param in more


@pytest.mark.parametrize(
    "more",
    [
        {"quality": "standard"},
        {"user": "somebody"},
        {"background": "auto"},
        {"moderation": "auto"},
        {"output_format": "webp", "output_compression": 80},
    ],
)
def test_what_asks_for_nothing_special_is_never_refused(more: dict[str, Any]) -> None:
    route = ImageRoute(upstream=upstream())

    check(request(**more), route)

    assert image.draw_request(request(**more), route, 1, Path()).parameters == {
        "px": 1024,
        "steps": 25,
    }


def test_a_prompt_has_the_length_that_its_model_reads() -> None:
    route = ImageRoute(upstream=upstream(prompt_characters=6))

    check(request(), route)
    with pytest.raises(InvalidRequest, match="at most 6 characters"):
        check(request(prompt="A catfish."), route)


def test_openai_gets_what_is_not_known_here() -> None:
    route = catalog.images["gpt-image-2"].routes[0]
    asked = request(input_fidelity="high", user="somebody", moderation="low")

    check(asked, route)

    sent = image.draw_request(asked, route, 1, Path()).parameters
    assert sent == {
        "size": "1024x1024",
        "quality": "medium",
        "input_fidelity": "high",
        "user": "somebody",
        "moderation": "low",
    }


@pytest.mark.parametrize("size", ["256x256", "512x512", "1024x1024"])
def test_every_route_of_the_catalogue_has_the_documented_sizes(
    size: str, subtests: pytest.Subtests
) -> None:
    found = [
        (model, route, quality)
        for model, images in catalog.images.items()
        for route in images.routes
        for quality in route.qualities
    ]

    for model, route, quality in found:
        with subtests.test(f"{model} {route.provider} {quality}"):
            asked = request(model=model, size=size, quality=quality)

            check(asked, route)

            assert image.draw_request(asked, route, 1, Path()).parameters is not None
