"""The catalogue's file: what may stand in it, and on which line something wrong does."""

import datetime
import re
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    PlainValidator,
)

from config import providers

PROVIDERS = frozenset({*providers.CHAT, providers.SANDBOX})
IMAGE_PROVIDERS = frozenset({*providers.IMAGES, providers.SANDBOX})

#: What a request may ask of a model. `sampling` is temperature, top_p, the penalties and
#: logit_bias; `images`, `audio` and `files` are content parts; the others are parameters.
TAKES = frozenset(
    {
        "sampling",
        "logprobs",
        "stop",
        "seed",
        "n",
        "tools",
        "json_object",
        "json_schema",
        "images",
        "audio",
        "files",
        "reasoning_effort",
    }
)

#: What a request may ask of a model that makes images, beside what its tables say.
IMAGE_TAKES = frozenset({"background", "moderation", "user"})
QUALITIES = frozenset({"standard", "hd", "low", "medium", "high", "auto"})
STYLES = frozenset({"vivid", "natural"})


def _credits(value: object) -> Fraction:
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise ValueError("it must be a number")
    if isinstance(value, Decimal) and not value.is_finite():
        raise ValueError("it must be a finite number")
    if value < 0:
        raise ValueError("it must not be negative")
    return Fraction(value)


def _seconds(value: object) -> Fraction:
    seconds = _credits(value)
    if not seconds:
        raise ValueError("it must be more than 0")
    return seconds


def _one_of_providers(known: frozenset[str]) -> Callable[[str], str]:
    def check(name: str) -> str:
        provider, _, model = name.partition(":")
        if provider not in known or not model:
            raise ValueError(
                f"{name!r} must be a provider and a model, 'provider:model', with one of the "
                f"providers {', '.join(sorted(known))}"
            )
        return name

    return check


def _one_of_words(known: frozenset[str]) -> Callable[[str], str]:
    def check(word: str) -> str:
        if word not in known:
            raise ValueError(f"{word!r} is not one of {', '.join(sorted(known))}")
        return word

    return check


def _whole_credits(value: object) -> int:
    credits = _credits(value)
    if credits.denominator != 1 or not credits:
        raise ValueError("it must be a whole number of credits, 1 or more")
    return int(credits)


def _size(name: str) -> str:
    if not re.fullmatch(r"[1-9][0-9]{0,4}x[1-9][0-9]{0,4}", name, re.ASCII):
        raise ValueError(f"{name!r} must be a width and a height in pixels, such as 1024x1024")
    return name


def _route_table(value: object) -> object:
    return {"upstream": value} if isinstance(value, str) else value


def _json_numbers(value: object) -> object:
    """Return `value` with the decimals, which are exact for prices, as JSON's numbers."""
    if isinstance(value, dict):
        return {name: _json_numbers(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_json_numbers(member) for member in value]
    return float(value) if isinstance(value, Decimal) else value


_Amount = Annotated[Fraction, PlainValidator(_credits)]
_Seconds = Annotated[Fraction, PlainValidator(_seconds)]
_Count = Annotated[int, Field(ge=1)]
_Text = Annotated[str, Field(min_length=1)]
_Sent = Annotated[dict[str, JsonValue], BeforeValidator(_json_numbers)]


class _Table(BaseModel):
    """What is not named in a table is refused in it."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Price(_Table):
    prompt: _Amount
    completion: _Amount


class ChatDefaults(_Table):
    price: Price
    default_output_tokens: _Count
    created: datetime.date


class ImagePrice(_Table):
    """Credits for one image."""

    standard: Annotated[int, PlainValidator(_whole_credits)]
    hd: Annotated[int, PlainValidator(_whole_credits)]


class ImageDefaults(_Table):
    price: ImagePrice = ImagePrice(standard=10, hd=15)


class Defaults(_Table):
    chat: ChatDefaults
    image: ImageDefaults = ImageDefaults()


class Timeouts(_Table):
    """Seconds. What is not given is as here."""

    thinking_seconds: _Seconds = Fraction(300)
    first_token_seconds: _Seconds = Fraction(120)
    between_tokens_seconds: _Seconds = Fraction(90)


class Plan(_Table):
    requests_per_hour: _Count
    max_running: _Count


class Plans(_Table):
    free: Plan
    pro: Plan
    lifetime: Plan


class Upstream(_Table):
    context_tokens: _Count | None = None
    max_output_tokens: _Count | None = None
    takes: list[Annotated[str, AfterValidator(_one_of_words(TAKES))]] = []
    reasoning: bool = False
    usd_per_million_input: _Amount | None = None
    usd_per_million_output: _Amount | None = None
    retires: datetime.date | None = None


class Route(_Table):
    upstream: str
    extra: _Sent = {}


class Model(_Table):
    kind: Literal["chat"] = "chat"
    owned_by: _Text
    created: datetime.date | None = None
    routes: Annotated[list[Annotated[Route, BeforeValidator(_route_table)]], Field(min_length=1)]
    price: Price | None = None
    default_output_tokens: _Count | None = None
    successor: str | None = None


_Quality = Annotated[str, AfterValidator(_one_of_words(QUALITIES))]
_Style = Annotated[str, AfterValidator(_one_of_words(STYLES))]


class FreeSizes(_Table):
    """Sizes that a model makes beside those that are listed: any within these limits, in pixels.

    In what is sent, `{width}` and `{height}` stand for the two numbers.
    """

    sends: _Sent
    multiple_of: _Count
    longest_side: _Count
    most_aspect: Annotated[Fraction, PlainValidator(_seconds)]
    least_pixels: _Count
    most_pixels: _Count


class ImageUpstream(_Table):
    """`sizes`, `qualities` and `styles` say what is sent for each of those that it has."""

    sizes: Annotated[dict[Annotated[str, AfterValidator(_size)], _Sent], Field(min_length=1)]
    free_sizes: FreeSizes | None = None
    qualities: Annotated[dict[_Quality, _Sent], Field(min_length=1)]
    styles: dict[_Style, _Sent] = {}
    sends: _Sent = {}
    takes: list[Annotated[str, AfterValidator(_one_of_words(IMAGE_TAKES))]] = []
    images_per_call: _Count = 1
    prompt_characters: _Count | None = None
    usd_per_image: _Amount | None = None
    retires: datetime.date | None = None


class ImageRoute(_Table):
    upstream: str
    qualities: dict[_Quality, _Sent] = {}
    style_prompts: dict[_Style, _Text] = {}


class ImageModel(_Table):
    owned_by: _Text
    created: datetime.date | None = None
    routes: Annotated[
        list[Annotated[ImageRoute, BeforeValidator(_route_table)]], Field(min_length=1)
    ]
    price: ImagePrice | None = None
    answers_base64: bool = False
    successor: str | None = None


_UpstreamName = Annotated[str, AfterValidator(_one_of_providers(PROVIDERS))]
_ImageUpstreamName = Annotated[str, AfterValidator(_one_of_providers(IMAGE_PROVIDERS))]


class File(_Table):
    defaults: Defaults
    plans: Plans
    timeouts: Timeouts = Timeouts()
    upstream: dict[_UpstreamName, Upstream]
    models: Annotated[dict[_Text, Model], Field(min_length=1)]
    image_upstream: dict[_ImageUpstreamName, ImageUpstream] = {}
    image_models: dict[_Text, ImageModel] = {}
