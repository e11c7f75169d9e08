"""OpenRouter: any model, its own routing, and no parameter lost on the way."""

from typing import Any

import pytest

from config.catalog.load import catalog
from models.errors import UnsupportedParameter
from providers.openrouter import OpenRouter
from tests.providers.requests_and_routes import chat, route

ACME = catalog.find("acme/large")
assert ACME is not None
UNLISTED = ACME.routes[0]


def sent(way: Any = UNLISTED, **parameters: Any) -> dict[str, Any]:
    request = chat(**parameters)
    OpenRouter().check(request, way)
    return OpenRouter().payload(request, way, None)


def test_a_model_nobody_listed_takes_everything() -> None:
    payload = sent(seed=1, logprobs=True, stop="x", top_k=5, reasoning_effort="high")

    assert payload["seed"] == 1
    assert payload["top_k"] == 5


def test_a_parameter_must_be_honoured_by_whoever_serves_an_unlisted_model() -> None:
    assert sent(seed=1)["provider"] == {"require_parameters": True}
    assert sent(response_format={"type": "json_object"})["provider"] == {"require_parameters": True}
    assert "provider" not in sent(temperature=1, n=1, user="u")
    assert "provider" not in sent(route("openrouter"), seed=1)


def test_where_all_is_required_our_default_is_not() -> None:
    assert sent()["temperature"] == 0.7
    assert "temperature" not in sent(seed=1)


def test_the_callers_routing_goes_along() -> None:
    preference = {"order": ["acme"], "require_parameters": False}

    assert sent(provider=preference, seed=1)["provider"] == preference
    assert sent(provider={"sort": "price"}, seed=1)["provider"] == {
        "sort": "price",
        "require_parameters": True,
    }


def test_more_than_one_choice_is_refused() -> None:
    with pytest.raises(UnsupportedParameter, match="'n'"):
        sent(n=2)


def test_thoughts_go_back_under_the_name_they_had() -> None:
    details = [{"type": "reasoning.encrypted", "data": "…"}]
    said = {
        "role": "assistant",
        "content": "Hi.",
        "reasoning_content": "Hm.",
        "reasoning_details": details,
    }

    (message, _) = sent(messages=[said, {"role": "user", "content": "Go on."}])["messages"]

    assert message == {
        "role": "assistant",
        "content": "Hi.",
        "reasoning": "Hm.",
        "reasoning_details": details,
    }
