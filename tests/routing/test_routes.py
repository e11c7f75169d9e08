"""Which routes a request gets, by its model, its `provider` and the keys there are."""

from typing import Any

import pytest

from config.catalog.load import catalog
from config.catalog.model import Model, Route, Upstream
from config.catalog.provider import Provider
from config.providers import CHAT
from config.settings import ProviderAccess, settings
from models.chat import ChatRequest
from models.errors import InvalidRequest, ModelNotFound, NoProvider, UnsupportedParameter
from providers import by_name, declared
from routing import candidates

HELLO = [{"role": "user", "content": "Hello"}]
PICTURE = [{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]
CHAT_PROVIDERS = catalog.chat_providers
#: What the product's documentation sends.
DOCUMENTED_EXAMPLE = {
    "messages": [{"role": "system", "content": "Be brief."}, *HELLO],
    "temperature": 0.7,
    "max_tokens": 500,
}


@pytest.fixture(autouse=True)
def _nothing_is_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in CHAT_PROVIDERS:
        set_keys(monkeypatch, name, "")
    monkeypatch.setattr(settings, "sandbox", False)


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> Any:
    def give(*names: str) -> None:
        for name in names:
            set_keys(monkeypatch, name, "sk-test")

    return give


def set_keys(monkeypatch: pytest.MonkeyPatch, name: str, key: str) -> None:
    if name in CHAT:
        monkeypatch.setattr(settings, f"{name}_api_key", key)
    else:
        access = ProviderAccess("https://api.acme.example", [key] if key else [])
        monkeypatch.setitem(settings._providers, name, access)


@pytest.fixture
def sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "sandbox", True)


def find(model: str, **parameters: Any) -> list[Route]:
    ways = candidates.find(ChatRequest({"model": model, "messages": HELLO} | parameters))
    return [way.route for way in ways]


def names(found: list[Route]) -> list[str]:
    return [f"{route.provider}:{route.upstream.id}" for route in found]


def test_routes_come_in_the_order_of_the_catalogue(keys: Any) -> None:
    keys("openai", "openrouter")

    assert names(find("gpt-4")) == [
        "openai:gpt-4.1",
        "openai:gpt-6-sol",
        "openrouter:openai/gpt-4.1",
    ]


def test_a_provider_without_a_key_is_off(keys: Any) -> None:
    keys("openrouter")

    assert names(find("gpt-4")) == ["openrouter:openai/gpt-4.1"]


def test_an_unknown_model_is_not_found_and_the_message_says_where_the_list_is() -> None:
    with pytest.raises(ModelNotFound, match="GET /api/v1/ai/models") as refused:
        find("gpt-99")

    assert refused.value.param == "model"


def test_any_vendor_and_model_goes_to_openrouter(keys: Any) -> None:
    keys("openai", "openrouter")

    assert names(find("anthropic/claude-sonnet-4.6")) == ["openrouter:anthropic/claude-sonnet-4.6"]


def test_without_a_key_the_variables_to_set_are_named() -> None:
    with pytest.raises(NoProvider, match="OPENAI_API_KEY or OPENROUTER_API_KEY"):
        find("gpt-4")


def test_the_documentations_example_is_honoured_by_every_route_of_every_model(
    keys: Any, sandbox: None, subtests: pytest.Subtests
) -> None:
    keys(*CHAT_PROVIDERS)

    for model in catalog.models.values():
        with subtests.test(model.id):
            ways = candidates.find(ChatRequest({"model": model.id} | DOCUMENTED_EXAMPLE))

            assert [way.route for way in ways] == list(model.routes)


@pytest.mark.parametrize(
    "model",
    [
        "gpt-4",
        "gpt-4-turbo",
        "gpt-3.5-turbo",
        "gemini-pro",
        "gemini-1.5-pro",
        "deepseek-chat",
        "deepseek-coder",
    ],
)
def test_every_route_of_a_documented_id_takes_a_temperature(model: str, keys: Any) -> None:
    keys(*CHAT_PROVIDERS)

    assert find(model, temperature=0.2, max_tokens=1) == list(catalog.models[model].routes)


# ---- provider


def test_a_named_provider_keeps_its_routes_only(keys: Any) -> None:
    keys("openai", "openrouter")

    assert names(find("gpt-4", provider="openrouter")) == ["openrouter:openai/gpt-4.1"]


def test_a_provider_that_does_not_serve_the_model_is_refused_with_those_that_do(keys: Any) -> None:
    keys("openai", "deepseek")

    with pytest.raises(InvalidRequest, match="served by openai or openrouter") as refused:
        find("gpt-4", provider="deepseek")

    assert refused.value.code == "invalid_parameter"
    assert refused.value.param == "provider"


def test_a_named_provider_that_is_off_is_said_with_its_variable(keys: Any) -> None:
    keys("openai")

    with pytest.raises(NoProvider, match=r"set OPENROUTER_API_KEY\."):
        find("gpt-4", provider="openrouter")


def test_a_routing_preference_goes_to_openrouter_only(keys: Any) -> None:
    keys("openai", "openrouter")

    assert names(find("gpt-4", provider={"order": ["azure"]})) == ["openrouter:openai/gpt-4.1"]


def test_a_routing_preference_is_refused_where_the_model_does_not_go_to_openrouter(
    keys: Any,
) -> None:
    keys("openai", "openrouter")

    with pytest.raises(UnsupportedParameter) as refused:
        find("gpt-4o", provider={"order": ["azure"]})

    assert refused.value.param == "provider"


# ---- What a route honours


def test_a_route_that_cannot_honour_a_parameter_is_left_out(keys: Any) -> None:
    keys("openai", "openrouter")

    assert names(find("gpt-4", seed=1)) == ["openai:gpt-4.1", "openrouter:openai/gpt-4.1"]


def test_a_parameter_that_no_route_honours_is_refused_for_the_first_ones_reason(keys: Any) -> None:
    keys("deepseek", "openrouter")

    with pytest.raises(UnsupportedParameter) as refused:
        find("deepseek-chat", n=2)

    assert refused.value.param == "n"
    assert "deepseek" in refused.value.message


def test_a_picture_is_refused_where_the_model_reads_none(keys: Any) -> None:
    keys("deepseek")

    with pytest.raises(UnsupportedParameter):
        find("deepseek-chat", messages=[{"role": "user", "content": PICTURE}])


# ---- The sandbox


def test_the_sandbox_stands_in_for_a_provider_without_a_key(sandbox: None) -> None:
    [route] = find("gpt-4")

    real = catalog.models["gpt-4"].routes[0].upstream
    assert names([route]) == ["sandbox:gpt-4"]
    assert route.upstream.context_tokens == real.context_tokens
    assert route.upstream.max_output_tokens == real.max_output_tokens
    assert not route.extra


def test_a_provider_with_a_key_answers_for_real_beside_the_sandbox(
    keys: Any, sandbox: None
) -> None:
    keys("openai")

    assert names(find("gpt-4o")) == ["openai:gpt-4o"]
    assert names(find("deepseek-chat")) == ["sandbox:deepseek-chat"]
    assert names(find("gpt-4", provider="openrouter")) == ["sandbox:gpt-4"]


def test_the_sandbox_serves_every_model(sandbox: None, subtests: pytest.Subtests) -> None:
    for model in catalog.models:
        with subtests.test(model):
            assert names(find(model)) == [f"sandbox:{model}"]


def test_the_sandbox_serves_a_vendor_and_model(sandbox: None) -> None:
    assert names(find("x-ai/grok-4")) == ["sandbox:x-ai/grok-4"]


def test_the_sandbox_refuses_what_the_real_model_would(sandbox: None) -> None:
    with pytest.raises(UnsupportedParameter) as refused:
        find("o3", temperature=0.2)

    assert refused.value.param == "temperature"


def test_the_models_of_the_sandbox_are_not_there_without_it(keys: Any) -> None:
    keys(*CHAT_PROVIDERS)

    with pytest.raises(ModelNotFound):
        find("sandbox/slow")


def test_the_models_of_the_sandbox_stay_in_it_whatever_keys_there_are(
    keys: Any, sandbox: None
) -> None:
    keys(*CHAT_PROVIDERS)

    assert names(find("sandbox/error-429")) == ["sandbox:sandbox/error-429"]


def test_an_unknown_model_of_the_sandbox_is_not_found(keys: Any, sandbox: None) -> None:
    keys("openrouter")

    with pytest.raises(ModelNotFound):
        find("sandbox/nope")


# ---- What is listed


def test_the_models_of_the_sandbox_are_listed_only_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    without = {model.id for model in candidates.listed()}
    monkeypatch.setattr(settings, "sandbox", True)
    beside = {model.id for model in candidates.listed()}

    assert "gpt-4" in without
    assert beside - without == {
        "sandbox/slow",
        "sandbox/long",
        "sandbox/cut",
        "sandbox/error-429",
        "sandbox/error-500",
    }


def test_the_providers_of_a_model_are_those_that_would_answer(
    keys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = candidates.get_one("gpt-4")

    assert candidates.providers_of(model) == []
    keys("openrouter")
    assert candidates.providers_of(model) == ["openrouter"]
    monkeypatch.setattr(settings, "sandbox", True)
    assert candidates.providers_of(model) == ["openai", "openrouter"]


# ---- A provider of the catalogue's own


@pytest.fixture
def acme(monkeypatch: pytest.MonkeyPatch) -> Model:
    """A model that such a provider serves, and nobody else."""
    facts = Provider(
        name="acme",
        base_url="https://api.acme.example",
        key_env="ACME_KEY",
        unsupported=frozenset({"n"}),
    )
    monkeypatch.setitem(catalog.providers, "acme", facts)
    monkeypatch.setitem(by_name, "acme", declared.provider(facts))
    route = Route(upstream=Upstream(provider="acme", id="large", takes=frozenset({"stop"})))
    model = catalog.models["gpt-4"].model_copy(update={"id": "acme-large", "routes": (route,)})
    monkeypatch.setitem(catalog.models, model.id, model)
    set_keys(monkeypatch, "acme", "")
    return model


def test_a_provider_of_the_catalogues_own_is_on_with_a_key(acme: Model, keys: Any) -> None:
    with pytest.raises(NoProvider, match="has to set ACME_KEY"):
        find(acme.id)

    keys("acme")

    assert find(acme.id, provider="acme") == list(acme.routes)
    assert candidates.providers_of(acme) == ["acme"]
    with pytest.raises(UnsupportedParameter, match="'n'"):
        find(acme.id, n=2)


def test_the_sandbox_stands_in_for_it_and_refuses_what_it_would(acme: Model, sandbox: None) -> None:
    assert names(find(acme.id, stop="x")) == ["sandbox:acme-large"]
    with pytest.raises(UnsupportedParameter, match="'n'"):
        find(acme.id, n=2)


def test_its_name_is_one_that_a_request_may_insist_on(acme: Model) -> None:
    body = {"model": acme.id, "messages": HELLO}

    assert ChatRequest.read(body | {"provider": "acme"}).provider == "acme"
    with pytest.raises(InvalidRequest, match="'openrouter', 'acme'"):
        ChatRequest.read(body | {"provider": "nobody"})
