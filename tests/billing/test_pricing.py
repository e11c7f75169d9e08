"""Prices are exact: whole credits, rounded up once."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing import pricing
from billing.pricing import ChatQuote, EachPrice, ImageQuote
from config.catalog.model import ChatPrice, ImagePrice
from models.chat import Usage

STANDARD = ChatPrice(prompt=Fraction(1), completion=Fraction(3))
TOKENS = st.integers(0, 2_000_000)
PRICES = st.builds(
    ChatPrice,
    prompt=st.fractions(0, 100, max_denominator=1000),
    completion=st.fractions(0, 100, max_denominator=1000),
)


@pytest.mark.parametrize(
    ("prompt", "completion", "credits"),
    [
        (0, 0, 1),
        (1, 1, 1),
        (1000, 0, 1),
        (1001, 0, 2),
        (0, 333, 1),
        (0, 334, 2),
        (1000, 1000, 4),
        (1000, 1001, 5),
        (999_999_999_999, 1, 1_000_000_001),
    ],
)
def test_a_chat_costs_its_tokens_rounded_up_once(
    prompt: int, completion: int, credits: int
) -> None:
    assert pricing.chat(STANDARD, Usage(prompt, completion)) == credits


@given(PRICES, TOKENS, TOKENS)
def test_a_cost_is_the_least_whole_number_that_covers_it(
    price: ChatPrice, prompt: int, completion: int
) -> None:
    exact = (prompt * price.prompt + completion * price.completion) / 1000

    credits = pricing.chat(price, Usage(prompt, completion))

    assert credits >= max(1, exact)
    assert credits == 1 or credits - 1 < exact


@given(
    st.lists(PRICES, min_size=1, max_size=3),
    st.integers(0, 10_000),
    st.integers(1, 8),
    st.integers(1, 9000),
    st.integers(0, 500),
)
def test_what_is_affordable_is_the_most_that_the_credits_pay(
    prices: list[ChatPrice], prompt: int, choices: int, most: int, credits: int
) -> None:
    quote = ChatQuote(tuple(prices), prompt, choices, most, min(most, 256))

    tokens = quote.affordable_output(credits)

    assert 0 <= tokens <= most
    if tokens:
        assert quote.hold(tokens) <= credits
    if tokens < most and credits:
        assert quote.hold(tokens + 1) > credits


@given(PRICES)
def test_a_price_survives_being_written_down(price: ChatPrice) -> None:
    assert pricing.from_text(pricing.as_text(price)) == price


# ---- Images


def test_images_are_held_at_the_dearest_price_they_may_cost() -> None:
    quote = ImageQuote((10, 25), 4)

    assert (quote.max_credits, quote.min_to_start) == (100, 100)
    assert quote.within(99) is None


@pytest.mark.parametrize(("quality", "credits"), [("standard", 10), ("hd", 15), ("high", 15)])
def test_an_image_costs_what_its_quality_does(quality: str, credits: int) -> None:
    assert ImagePrice(standard=10, hd=15).each(quality) == credits


def test_the_price_of_an_image_is_kept_exactly() -> None:
    assert pricing.from_text(pricing.as_text(EachPrice(15))) == EachPrice(15)
