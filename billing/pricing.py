"""Prices and quotes in whole credits: pure, exact arithmetic without floats."""

from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Protocol

from config.catalog.model import ChatPrice, plain
from models.chat import Usage

#: Below this many output tokens an answer is not worth starting.
MIN_OUTPUT_TOKENS = 256


@dataclass(frozen=True)
class EachPrice:
    """Credits per image, at the requested quality."""

    each: int


Price = ChatPrice | EachPrice


class Quote(Protocol):
    """What a call may cost."""

    @property
    def price(self) -> Price:
        """The price of the requested model."""

    @property
    def max_output(self) -> int:
        """The most output tokens one choice may use."""

    @property
    def max_credits(self) -> int:
        """The most credits the call can cost."""

    @property
    def min_to_start(self) -> int:
        """The fewest credits the call can start with."""

    @property
    def min_charge(self) -> int:
        """The fewest credits an answer can cost."""

    def within(self, credits: int) -> tuple[int, int] | None:
        """Return the output tokens that `credits` can buy, and the credits to hold for them.

        None if the call cannot start with so few.
        """


@dataclass(frozen=True)
class ImageQuote:
    """What images may cost: credits per image, at every model they may come from."""

    prices: tuple[int, ...]
    count: int

    #: Images are not counted in tokens.
    max_output = 0

    @property
    def price(self) -> EachPrice:
        return EachPrice(self.prices[0])

    @property
    def max_credits(self) -> int:
        return max(self.prices) * self.count

    @property
    def min_to_start(self) -> int:
        return self.max_credits

    @property
    def min_charge(self) -> int:
        return min(self.prices) * self.count

    def within(self, credits: int) -> tuple[int, int] | None:
        return None  # There is no part of an image to hold for.


@dataclass(frozen=True)
class ChatQuote:
    """What a chat may cost: the price of every model it may go to, and its tokens."""

    prices: tuple[ChatPrice, ...]
    prompt_tokens: int
    choices: int
    #: Output tokens of one choice: the most the call may use, and the fewest it can start with.
    max_output: int
    min_output: int

    @property
    def price(self) -> ChatPrice:
        return self.prices[0]

    @property
    def max_credits(self) -> int:
        """The most credits the call can cost."""
        return self.hold(self.max_output)

    @property
    def min_to_start(self) -> int:
        """The fewest credits the call can start with."""
        return self.hold(self.min_output)

    @property
    def min_charge(self) -> int:
        """The fewest credits an answer can cost: any answer costs at least one."""
        return 1

    def hold(self, output_tokens: int) -> int:
        """Return the credits to hold for `output_tokens` of each choice."""
        usage = Usage(self.prompt_tokens, output_tokens * self.choices)
        return max(chat(price, usage) for price in self.prices)

    def within(self, credits: int) -> tuple[int, int] | None:
        """Return the output tokens per choice that `credits` can buy, and the credits to hold."""
        tokens = self.affordable_output(credits)
        return (tokens, self.hold(tokens)) if tokens >= self.min_output else None

    def affordable_output(self, credits: int) -> int:
        """Return the most output tokens per choice whose `hold` is at most `credits`."""
        if credits < 1:
            return 0  # Every call costs at least one credit.
        return min(self._affordable_at(price, credits) for price in self.prices)

    def _affordable_at(self, price: ChatPrice, credits: int) -> int:
        remaining = credits * 1000 - self.prompt_tokens * price.prompt
        if not price.completion:
            return self.max_output if remaining >= 0 else 0
        tokens = remaining / (price.completion * self.choices)
        return max(0, min(self.max_output, int(tokens)))


def chat(price: ChatPrice, usage: Usage) -> int:
    """Return the credits of a chat: tokens at `price` per 1000, rounded up once, at least 1."""
    thousandths = usage.prompt_tokens * price.prompt + usage.completion_tokens * price.completion
    return max(1, ceil(thousandths / 1000))


def as_text(price: Price) -> str:
    """Return a price as stored with a job: fractions as text, exact."""
    if isinstance(price, EachPrice):
        return str(price.each)
    return f"{price.prompt} {price.completion}"


def from_text(text: str) -> Price:
    """Return the price that `as_text` serialized."""
    if " " not in text:
        return EachPrice(int(text))
    prompt, completion = text.split(" ")
    return ChatPrice(prompt=Fraction(prompt), completion=Fraction(completion))


def as_json(price: Price) -> dict[str, int | str]:
    """Return a price as callers see it: its unit and credits, fractions as strings."""
    if isinstance(price, EachPrice):
        return {"unit": "credits per image", "each": price.each}
    return {
        "unit": "credits per 1000 tokens",
        "prompt": plain(price.prompt),
        "completion": plain(price.completion),
    }
