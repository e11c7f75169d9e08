"""The types of the catalogue's values. Validators raise `ValueError`s that read as phrases."""

import re
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    PlainValidator,
    TypeAdapter,
    ValidationError,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

#: Keys and indexes from the top of the file: `("models", "gpt-4", "routes", 0)`.
KeyPath = tuple[int | str, ...]

#: The features of a chat model, as in `takes`. `sampling` stands for temperature, top_p, the
#: penalties and logit_bias; `images`, `audio` and `files` for content parts; the others for the
#: parameter of that name.
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

#: The features of an image model, as in `takes`, beside sizes, qualities and styles.
IMAGE_TAKES = frozenset({"background", "moderation", "user"})
QUALITIES = frozenset({"standard", "hd", "low", "medium", "high", "auto"})
STYLES = frozenset({"vivid", "natural"})


class Table(BaseModel):
    """A table of the file. An unknown key is an error."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def invalid(mistakes: Iterable[tuple[KeyPath, str]]) -> ValidationError:
    """Return an error for several mistakes, each with its path within the validated table."""
    return ValidationError.from_exception_data(
        "catalogue",
        [
            InitErrorDetails(
                type=PydanticCustomError("mistake", "{reason}", {"reason": reason}),
                loc=path,
                input=None,
            )
            for path, reason in mistakes
        ],
    )


def _amount(value: object) -> Fraction:
    if isinstance(value, bool) or not isinstance(value, int | Decimal | Fraction):
        raise ValueError("it must be a number")
    if isinstance(value, Decimal) and not value.is_finite():
        raise ValueError("it must be a finite number")
    if value < 0:
        raise ValueError("it must not be negative")
    return Fraction(value)


def _positive(value: object) -> Fraction:
    number = _amount(value)
    if not number:
        raise ValueError("it must be more than 0")
    return number


def _seconds(value: object) -> float:
    return float(_positive(value))


def _whole_credits(value: object) -> int:
    credits = _amount(value)
    if credits.denominator != 1 or not credits:
        raise ValueError("it must be a whole number of credits, 1 or more")
    return int(credits)


def _size(name: str) -> str:
    if not re.fullmatch(r"[1-9][0-9]{0,4}x[1-9][0-9]{0,4}", name, re.ASCII):
        raise ValueError(f"{name!r} must be a width and a height in pixels, such as 1024x1024")
    return name


def one_of(known: frozenset[str]) -> Callable[[str], str]:
    """Return a validator that accepts only the words in `known`."""

    def check(word: str) -> str:
        if word not in known:
            raise ValueError(f"{word!r} is not one of {', '.join(sorted(known))}")
        return word

    return check


def _json_numbers(value: object) -> object:
    """Return `value` with floats in place of the decimals that TOML's numbers are read as."""
    if isinstance(value, Mapping):
        return {name: _json_numbers(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_json_numbers(member) for member in value]
    return float(value) if isinstance(value, Decimal) else value


_JSON_OBJECT = TypeAdapter(dict[str, JsonValue])


def _sent(value: object) -> Mapping[str, Any]:
    return _JSON_OBJECT.validate_python(_json_numbers(value))


Amount = Annotated[Fraction, PlainValidator(_amount)]
Ratio = Annotated[Fraction, PlainValidator(_positive)]
Seconds = Annotated[float, PlainValidator(_seconds)]
WholeCredits = Annotated[int, PlainValidator(_whole_credits)]
Count = Annotated[int, Field(ge=1)]
Text = Annotated[str, Field(min_length=1)]
#: Fields sent to a provider as they are.
Sent = Annotated[Mapping[str, Any], PlainValidator(_sent)]

#: `WIDTHxHEIGHT` in pixels.
Size = Annotated[str, AfterValidator(_size)]
Quality = Annotated[str, AfterValidator(one_of(QUALITIES))]
Style = Annotated[str, AfterValidator(one_of(STYLES))]

#: Not strict, since TOML has lists but no sets.
Takes = Annotated[frozenset[Annotated[str, AfterValidator(one_of(TAKES))]], Field(strict=False)]
ImageTakes = Annotated[
    frozenset[Annotated[str, AfterValidator(one_of(IMAGE_TAKES))]], Field(strict=False)
]


def _plan_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]{0,39}", name, re.ASCII):
        raise ValueError(
            f"{name!r} must be 1 to 40 letters, digits, dots, hyphens or underscores, beginning "
            "with a letter or digit"
        )
    return name


PlanName = Annotated[str, AfterValidator(_plan_name)]


def _linked_route(table: str) -> BeforeValidator:
    """Return a validator that rejects a route whose upstream is not in the tables `table`."""

    def check(route: object) -> object:
        name = route.get("upstream") if isinstance(route, Mapping) else route
        if isinstance(name, str):
            raise ValueError(f'there is no [{table}."{name}"]')
        return route

    return BeforeValidator(check)


LinkedRoute = _linked_route("upstream")
LinkedImageRoute = _linked_route("image_upstream")
