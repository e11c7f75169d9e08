"""The catalogue as it ships, and what `find` makes of it."""

import datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from config.catalog.load import catalog, load
from config.catalog.model import ChatPrice, Model, plain
from config.catalog.root import Catalog
from jobs.kinds.chat import CHAT
from jobs.kinds.image import BULK_IMAGE, IMAGE
from tests.stack import ROOT

DOCUMENTED = [
    "gpt-4",
    "gpt-4-turbo",
    "gpt-3.5-turbo",
    "gemini-pro",
    "gemini-1.5-pro",
    "deepseek-chat",
    "deepseek-coder",
]
#: The day the catalogue was written: nothing it routes to was retired before.
WRITTEN = datetime.date(2026, 11, 22)
FILE = ROOT / "config" / "catalog.toml"

EVERY_ROUTE = [route for model in catalog.models.values() for route in model.routes]


def find(model_id: str) -> Model:
    model = catalog.find(model_id)
    assert model is not None
    return model


def variant(tmp_path: Path, old: str, new: str) -> Catalog:
    """Return the shipped catalogue with the first `old` in its file replaced by `new`."""
    path = tmp_path / "catalog.toml"
    path.write_text(FILE.read_text().replace(old, new, 1))
    return load(path)


@pytest.mark.parametrize("model_id", DOCUMENTED)
def test_every_documented_id_is_served_and_names_what_took_its_place(model_id: str) -> None:
    model = find(model_id)

    assert model.routes
    assert model.successor in catalog.models


@pytest.mark.parametrize("model_id", DOCUMENTED)
def test_a_documented_id_goes_to_openrouter_in_the_end(model_id: str) -> None:
    assert find(model_id).routes[-1].provider == "openrouter"


def test_no_route_leads_to_a_model_that_was_retired_when_the_catalogue_was_written() -> None:
    days = {route.upstream.id: route.upstream.retires for route in EVERY_ROUTE}

    assert [name for name, day in days.items() if day is not None and day <= WRITTEN] == []


def test_a_gemini_goes_to_google_first_and_thinks_there() -> None:
    orders = {
        model.id: [route.provider for route in model.routes]
        for model in catalog.models.values()
        if model.id.startswith("gemini-")
    }
    of_google = [route.upstream for route in EVERY_ROUTE if route.provider == "gemini"]

    assert orders
    assert {id: o for id, o in orders.items() if o[0] != "gemini" or o != sorted(o)} == {}
    assert [upstream.id for upstream in of_google if not upstream.reasoning] == []


def test_a_model_of_openai_that_thinks_takes_no_sampling() -> None:
    thinkers = [
        route.upstream
        for route in EVERY_ROUTE
        if route.provider == "openai" and route.upstream.reasoning
    ]

    assert thinkers
    assert [u.id for u in thinkers if u.takes & {"sampling", "logprobs", "seed"}] == []


def test_a_model_costs_what_the_product_says() -> None:
    said = (ChatPrice(prompt=Fraction(1), completion=Fraction(3)), 8192)
    found = {m.id: (m.price, m.default_output_tokens) for m in catalog.models.values()}

    assert {name: costs for name, costs in found.items() if costs != said} == {}


def test_each_plan_knows_its_name(tmp_path: Path) -> None:
    more = "[plans.team]\nrequests_per_hour = 500\nmax_running = 1\n\n[plans.pro]"

    team = variant(tmp_path, "[plans.pro]", more).plans["team"]
    pro = catalog.plans["pro"]

    assert (team.name, team.requests_per_hour) == ("team", 500)
    assert (CHAT.max_running(team), BULK_IMAGE.max_running(team)) == (1, 1)
    assert (IMAGE.max_running(pro), BULK_IMAGE.max_running(pro)) == (250, 2)


def test_the_plans_allow_what_the_product_says() -> None:
    per_hour = {plan.name: plan.requests_per_hour for plan in catalog.plans.values()}

    assert per_hour == {"free": 200, "pro": 2000, "lifetime": 2000}


def test_every_upstream_in_the_file_is_used() -> None:
    used = {
        (route.provider, route.upstream.id)
        for model in catalog.models.values()
        for route in model.routes
    }
    headers = FILE.read_text().count("\n[upstream.")

    assert headers == len(used)


def test_deepseek_thinks_for_the_reasoner_only() -> None:
    chat, reasoner = find("deepseek-chat").routes[0], find("deepseek-reasoner").routes[0]

    assert chat.upstream == reasoner.upstream
    assert chat.extra == {"thinking": {"type": "disabled"}}
    assert reasoner.extra == {"thinking": {"type": "enabled"}}


@pytest.mark.parametrize(
    "model_id",
    ["anthropic/claude-sonnet-4.6", "meta-llama/llama-3.2-3b-instruct:free", "x-ai/grok-4"],
)
def test_an_unlisted_vendor_and_model_goes_to_openrouter_at_the_default_price(
    model_id: str,
) -> None:
    model = find(model_id)

    assert [(r.provider, r.upstream.id) for r in model.routes] == [("openrouter", model_id)]
    assert model.routes[0].upstream.takes == frozenset()
    assert model.price == catalog.chat.price
    assert model.owned_by == model_id.partition("/")[0]


def test_an_unlisted_model_is_made_once() -> None:
    assert find("anthropic/claude-haiku-4.5") is find("anthropic/claude-haiku-4.5")


@pytest.mark.parametrize(
    "model_id",
    [
        *("openrouter/auto", "OpenRouter/Auto", "~openrouter/auto", "@preset/mine"),
        *("openai/gpt-4.1@preset/mine", "openai/gpt-4.1:online", "acme/large:nitro", "a/b:exacto"),
    ],
)
def test_what_openrouter_chooses_or_adds_has_no_price(model_id: str) -> None:
    assert catalog.is_unpriced(model_id)
    assert catalog.find(model_id) is None


@pytest.mark.parametrize("variant", ["free", "floor", "extended", "thinking"])
def test_a_variant_that_is_a_model_of_its_own_or_cheaper_has_one(variant: str) -> None:
    assert find(f"acme/large:{variant}").price == catalog.chat.price


@pytest.mark.parametrize(
    "model_id",
    ["", "nope", "a/", "/b", "a/b/c", "a b/c", "a/b\n", "../etc", "sandbox/nope", "é/b", "a/b:"],
)
def test_anything_else_is_not_found(model_id: str) -> None:
    assert catalog.find(model_id) is None


def test_a_listed_vendor_and_model_keeps_its_limits() -> None:
    assert find("microsoft/phi-4").routes[0].upstream.context_tokens == 16_384


@pytest.mark.parametrize(
    ("model_id", "index", "reasons"),
    [
        ("o3", 0, True),
        ("gpt-4.1", 0, False),
        ("gpt-4", 1, False),
        ("gemini-pro", 0, True),
        ("deepseek-chat", 0, False),
        ("deepseek-chat", 2, False),
        ("deepseek-reasoner", 0, True),
        ("deepseek-reasoner", 2, True),
        ("deepseek-v4-pro", 0, True),
    ],
)
def test_a_route_reasons_if_its_model_does_and_is_not_told_otherwise(
    model_id: str, index: int, reasons: bool
) -> None:
    assert find(model_id).routes[index].reasons is reasons


def test_a_model_is_retired_from_the_day_on_which_its_vendor_shuts_it() -> None:
    upstream = find("gpt-4o-2024-08-06").routes[0].upstream

    assert not upstream.is_retired(datetime.date(2027, 1, 13))
    assert upstream.is_retired(datetime.date(2027, 1, 14))
    assert not find("gpt-4o").routes[0].upstream.is_retired(datetime.date(2100, 1, 1))


def test_a_price_that_is_not_whole_is_exact(tmp_path: Path) -> None:
    cheap = variant(tmp_path, "prompt = 1, completion = 3", "prompt = 0.1, completion = 2.50")

    model = cheap.models["gpt-4"]

    assert model.price == ChatPrice(prompt=Fraction(1, 10), completion=Fraction(5, 2))
    assert (plain(model.price.prompt), plain(model.price.completion)) == ("0.1", "2.5")


def test_a_model_may_name_its_own_price_and_output(tmp_path: Path) -> None:
    changed = variant(
        tmp_path,
        '[models."gpt-4"]',
        '[models."gpt-4"]\nprice = { prompt = 2, completion = 6 }\ndefault_output_tokens = 100',
    )

    assert changed.models["gpt-4"].price == ChatPrice(prompt=Fraction(2), completion=Fraction(6))
    assert changed.models["gpt-4"].default_output_tokens == 100
    assert changed.models["gpt-4-turbo"].price == changed.chat.price


def test_a_decimal_in_what_is_always_sent_is_a_number_of_json(tmp_path: Path) -> None:
    changed = variant(tmp_path, 'extra = { reasoning_effort = "none" }', "extra = { top_p = 0.5 }")

    assert changed.models["gpt-4"].routes[1].extra == {"top_p": 0.5}
    assert type(changed.models["gpt-4"].routes[1].extra["top_p"]) is float


@pytest.mark.parametrize("of", [catalog, *catalog.models.values(), *catalog.images.values()])
def test_nothing_in_the_catalogue_can_be_set(of: Any) -> None:
    field = next(iter(type(of).model_fields))

    with pytest.raises(ValidationError, match="frozen"):
        setattr(of, field, None)


def test_routes_share_the_upstream_models_of_the_catalogue() -> None:
    for model in [*catalog.models.values(), *catalog.images.values()]:
        for route in model.routes:
            upstreams = catalog.upstreams if model.kind == "chat" else catalog.image_upstreams
            assert route.upstream is upstreams[route.upstream.name]
