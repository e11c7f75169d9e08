"""Which ways there are to make an image: routes, fallbacks, and the sandbox in their place."""

from typing import Any

import pytest

from config.settings import settings
from models.errors import InvalidRequest, ModelNotFound, NoProvider, UnsupportedParameter
from models.image import ImageRequest
from routing import image_candidates


def find(**more: Any) -> list[tuple[str, str, str]]:
    asked = ImageRequest.read({"model": "dall-e-3", "prompt": "A cat."} | more)
    return [
        (way.model.id, way.provider.name, way.upstream_model)
        for way in image_candidates.find(asked)
    ]


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """No provider has a key, and the sandbox is off."""
    for name in ("openai_api_key", "replicate_api_token", "stability_api_key"):
        monkeypatch.setattr(settings, name, "")
    monkeypatch.setattr(settings, "sandbox", False)


@pytest.fixture
def openai(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "openai_api_key", "sk-openai")


@pytest.fixture
def stability(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "stability_api_key", "sk-stability")


@pytest.fixture
def sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "sandbox", True)


@pytest.mark.usefixtures("openai")
def test_a_retired_id_goes_to_its_successors() -> None:
    assert find() == [
        ("dall-e-3", "openai", "gpt-image-2"),
        ("dall-e-3", "openai", "gpt-image-2.5-flare"),
    ]


@pytest.mark.usefixtures("stability")
def test_a_route_that_has_no_hd_is_left_out_of_it() -> None:
    standard = [upstream for _, _, upstream in find(model="stable-diffusion-xl")]
    hd = [upstream for _, _, upstream in find(model="stable-diffusion-xl", quality="hd")]

    assert standard[0] == "stable-image-core"
    assert hd[0] == "stable-image-ultra" and "stable-image-core" not in hd


@pytest.mark.usefixtures("openai", "stability")
def test_fallbacks_come_after_the_models_own_routes_and_each_once() -> None:
    ways = find(fallbacks=["gpt-image-2", "sd3.5-large", "flux-pro"])

    assert [upstream for _, _, upstream in ways] == [
        "gpt-image-2",
        "gpt-image-2.5-flare",
        "gpt-image-2",  # With no style in its prompt, it is another way.
        "sd3.5-large",
    ]


@pytest.mark.usefixtures("openai")
def test_a_fallback_that_could_never_honour_the_request_is_refused() -> None:
    with pytest.raises(UnsupportedParameter) as caught:
        find(style="vivid", fallbacks=["flux-pro"])

    assert caught.value.param == "style"


@pytest.mark.usefixtures("stability")
def test_a_model_whose_provider_is_off_is_served_by_its_fallback() -> None:
    assert find(fallbacks=["sd3.5-large"]) == [("sd3.5-large", "stability", "sd3.5-large")]


def test_where_nobody_is_on_the_variable_to_set_is_named() -> None:
    with pytest.raises(NoProvider, match="OPENAI_API_KEY"):
        find()
    with pytest.raises(NoProvider, match="STABILITY_API_KEY or REPLICATE_API_TOKEN"):
        find(model="stable-diffusion-xl")


@pytest.mark.usefixtures("sandbox")
def test_the_sandbox_stands_in_and_refuses_what_the_real_one_would() -> None:
    assert find() == [("dall-e-3", "sandbox", "dall-e-3")]
    with pytest.raises(UnsupportedParameter):
        find(model="flux-schnell", quality="hd")


@pytest.mark.usefixtures("openai", "sandbox")
def test_who_insists_on_a_provider_gets_that_one_or_none() -> None:
    assert {provider for _, provider, _ in find(provider="openai")} == {"openai"}
    with pytest.raises(InvalidRequest) as caught:
        find(provider="stability")

    assert caught.value.param == "provider"


@pytest.mark.parametrize("model", ["gpt-4", "no-such-model", "openai/gpt-image-2", "sandbox/image"])
def test_what_makes_no_images_here_is_not_found(model: str) -> None:
    with pytest.raises(ModelNotFound):
        find(model=model)
