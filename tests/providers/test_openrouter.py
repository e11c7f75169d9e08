"""OpenRouter: any model, its own routing, and no parameter lost on the way."""

from typing import Any

import pytest

from config.catalog.load import catalog
from models.errors import InvalidRequest, UnsupportedParameter
from providers.openrouter import OpenRouter
from tests.providers.requests_and_routes import chat, route

ACME = catalog.find("acme/large")
assert ACME is not None
UNLISTED = ACME.routes[0]
BOUND = {"prompt": 10.0, "completion": 50.0, "request": 0.0}


def sent(way: Any = UNLISTED, **parameters: Any) -> dict[str, Any]:
    request = chat(**parameters)
    OpenRouter().check(request, way)
    return OpenRouter().payload(request, way, None)


def test_a_model_nobody_listed_takes_everything() -> None:
    payload = sent(seed=1, logprobs=True, stop="x", top_k=5, reasoning_effort="high")

    assert payload["seed"] == 1
    assert payload["top_k"] == 5


def test_a_parameter_must_be_honoured_by_whoever_serves_an_unlisted_model() -> None:
    required = {"require_parameters": True, "max_price": BOUND}

    assert sent(seed=1)["provider"] == required
    assert sent(response_format={"type": "json_object"})["provider"] == required
    assert sent(temperature=1, n=1, user="u")["provider"] == {"max_price": BOUND}
    assert "provider" not in sent(route("openrouter"), seed=1)


def test_where_all_is_required_our_default_is_not() -> None:
    assert sent()["temperature"] == 0.7
    assert "temperature" not in sent(seed=1)


def test_the_callers_routing_goes_along() -> None:
    preference = {"order": ["acme"], "require_parameters": False}

    assert sent(provider=preference, seed=1)["provider"] == preference | {"max_price": BOUND}
    assert sent(provider={"sort": "price"}, seed=1)["provider"] == {
        "sort": "price",
        "require_parameters": True,
        "max_price": BOUND,
    }


def test_no_vendor_may_cost_more_than_the_catalogue_says_whatever_the_caller_prefers() -> None:
    phi = catalog.models["microsoft/phi-4"].routes[0]
    dear = route("openrouter", takes=frozenset({"sampling"}))
    dear = dear.model_copy(
        update={"upstream": dear.upstream.model_copy(update={"usd_per_million_output": 75})}
    )
    own = phi.model_copy(
        update={"extra": {"provider": {"max_price": {"prompt": 2}, "only": ["acme"]}}}
    )
    greedy = {"max_price": {"prompt": 1000, "completion": "0.5", "image": 1}, "order": ["dear"]}

    assert sent(provider=greedy)["provider"] == {
        "order": ["dear"],
        "max_price": {"prompt": 10, "completion": 0.5, "request": 0, "image": 1},
    }
    assert sent(phi, provider=greedy)["provider"]["max_price"]["prompt"] == 10
    assert sent(dear, provider={"sort": "latency"})["provider"]["max_price"] == BOUND | {
        "completion": 75
    }
    assert sent(own, provider=greedy)["provider"]["max_price"]["prompt"] == 2
    assert sent(own)["provider"] == {"max_price": {"prompt": 2}, "only": ["acme"]}
    assert "provider" not in sent(phi)


@pytest.mark.parametrize("price", [{"prompt": "much"}, {"prompt": -1}, {"prompt": True}, 5, [1]])
def test_a_price_is_a_number(price: Any) -> None:
    with pytest.raises(InvalidRequest, match="provider.max_price"):
        sent(provider={"max_price": price})


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
