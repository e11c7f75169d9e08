"""What callers are shown of a model: the facts of the route that would answer."""

import datetime
from fractions import Fraction
from typing import Any

import orjson
import pytest

from config.catalog.fields import TAKES
from config.catalog.load import catalog
from config.catalog.model import ChatPrice, Model, Route, Upstream
from config.providers import CHAT
from config.settings import settings
from routing import candidates, model_view

YESTERDAY = datetime.datetime.now(datetime.UTC).date() - datetime.timedelta(days=1)


@pytest.fixture(autouse=True)
def _nothing_is_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in CHAT:
        monkeypatch.setattr(settings, f"{name}_api_key", "")
    monkeypatch.setattr(settings, "sandbox", False)


def shown(model_id: str) -> dict[str, Any]:
    return model_view.as_json(candidates.get_one(model_id))


def served_by(*upstreams: Upstream) -> Model:
    """Return a model of the catalogue with other routes."""
    found = tuple(Route(upstream=upstream) for upstream in upstreams)
    return catalog.models["gpt-4"].model_copy(update={"routes": found})


def test_every_word_of_the_catalogue_is_asked_for() -> None:
    assert model_view.EXAMPLES.keys() == TAKES


def test_a_model_says_what_it_takes_and_whether_it_reasons() -> None:
    assert shown("o3")["takes"] == [
        "n",
        "tools",
        "json_object",
        "json_schema",
        "images",
        "files",
        "reasoning_effort",
    ]
    assert shown("o3")["reasoning"] is True
    assert shown("gpt-4")["reasoning"] is False
    assert "sampling" in shown("gpt-4")["takes"]


def test_what_the_provider_makes_up_for_is_taken_and_what_the_route_rules_out_is_not() -> None:
    chat, reasoner = shown("deepseek-chat"), shown("deepseek-reasoner")

    assert "json_schema" in chat["takes"]
    assert "sampling" in chat["takes"]
    assert "sampling" not in reasoner["takes"]
    assert (chat["reasoning"], reasoner["reasoning"]) == (False, True)


def test_what_every_model_is_said_to_take_is_in_words_of_the_catalogue() -> None:
    takes = {model.id: model_view.as_json(model)["takes"] for model in catalog.models.values()}

    assert {name: words for name, words in takes.items() if not words or set(words) - TAKES} == {}


def test_what_an_unlisted_model_takes_is_unknown() -> None:
    unlisted = shown("x-ai/grok-4")

    assert (unlisted["takes"], unlisted["reasoning"]) == (None, None)
    assert "retires" not in unlisted


def test_the_day_is_named_on_which_the_model_is_shut() -> None:
    assert shown("gpt-4o-2024-08-06")["retires"] == "2027-01-14"
    assert "retires" not in shown("gpt-4o")


def test_the_facts_are_those_of_the_first_provider_that_has_a_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(settings, "openrouter_api_key", "sk-test")

    assert "n" not in shown("gpt-4")["takes"]

    monkeypatch.setattr(settings, "openai_api_key", "sk-test")

    assert "n" in shown("gpt-4")["takes"]


def test_a_route_that_is_retired_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "openai_api_key", "sk-test")
    old = Upstream(provider="openai", id="old", context_tokens=1, retires=YESTERDAY)
    new = Upstream(provider="openai", id="new", context_tokens=2)

    found = model_view.as_json(served_by(old, new))

    assert found["limits"]["context_tokens"] == 2
    assert "retires" not in found


def test_a_model_of_which_nothing_lives_is_shown_as_it_was() -> None:
    old = Upstream(provider="openai", id="old", context_tokens=1, retires=YESTERDAY)

    found = model_view.as_json(served_by(old))

    assert found["retires"] == YESTERDAY.isoformat()


def test_the_sandbox_shows_what_the_model_in_its_place_would(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    without = shown("gpt-4")
    monkeypatch.setattr(settings, "sandbox", True)

    assert shown("gpt-4") == without | {"providers": ["openai", "openrouter"]}
    assert set(shown("sandbox/slow")["takes"]) == TAKES


def test_a_retired_id_shows_its_price_limits_and_successor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "openai_api_key", "sk-test")

    found = shown("gpt-4")

    assert {"sampling", "stop"} < set(found.pop("takes"))
    assert found == {
        "id": "gpt-4",
        "object": "model",
        "created": 1687824000,
        "owned_by": "openai",
        "kind": "chat",
        "providers": ["openai"],
        "pricing": {"unit": "credits per 1000 tokens", "prompt": 1, "completion": 3},
        "limits": {
            "context_tokens": 1_047_576,
            "max_output_tokens": 32_768,
            "default_output_tokens": 8192,
        },
        "reasoning": False,
        "successor": "gpt-4.1",
    }


@pytest.mark.parametrize("model_id", catalog.models)
def test_every_model_is_json(model_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "sandbox", True)

    assert orjson.loads(orjson.dumps(shown(model_id)))["id"] == model_id


def test_a_current_model_has_no_successor() -> None:
    assert "successor" not in shown("gpt-4.1")


def test_a_price_that_is_not_whole_is_shown_exactly() -> None:
    price = ChatPrice(prompt=Fraction(1, 10), completion=Fraction(5, 2))

    found = model_view.as_json(catalog.models["gpt-4.1"].model_copy(update={"price": price}))

    assert found["pricing"]["prompt"] == "0.1"
    assert found["pricing"]["completion"] == "2.5"
