"""The catalogue's file: what may stand in it, and on which line something wrong does."""

import datetime
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    PlainValidator,
    ValidationError,
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


@dataclass(frozen=True)
class Remark:
    """What there is to say about one place of a catalogue's file."""

    path: Path
    #: None where there is no text to speak of.
    line: int | None
    #: Such as `models."gpt-4".routes[0]`; empty where it is about the file.
    place: str
    message: str

    def __str__(self) -> str:
        where = str(self.path) if self.line is None else f"{self.path}, line {self.line}"
        return ": ".join(part for part in (where, self.place, self.message) if part)

    def as_json(self) -> dict[str, Any]:
        return {"line": self.line, "place": self.place, "message": self.message}


class InvalidCatalog(SystemExit):
    """The catalogue cannot be used; the message says which line to change, and why."""

    def __init__(self, *mistakes: Remark) -> None:
        self.mistakes = mistakes
        told = "".join(f"\n  {mistake}" for mistake in mistakes)
        super().__init__(f"likedo: the catalogue cannot be used:{told}")


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


#: A place in the file, as keys from the top: `("models", "gpt-4", "routes", 0)`.
Place = tuple[int | str, ...]


def read(path: Path) -> File:
    """Read the file at `path`; raise `InvalidCatalog` naming the line of every mistake."""
    return Source.read(path).file()


@dataclass(frozen=True)
class Kind:
    """The models of one kind and what serves them, and what their tables are called."""

    name: str
    upstream_name: str
    models: Mapping[str, Model] | Mapping[str, ImageModel]
    upstreams: Mapping[str, Upstream] | Mapping[str, ImageUpstream]


def kinds(file: File) -> list[Kind]:
    return [
        Kind("models", "upstream", file.models, file.upstream),
        Kind("image_models", "image_upstream", file.image_models, file.image_upstream),
    ]


def _dangling(file: File) -> Iterator[tuple[Place, str]]:
    """Yield every name in `file` that leads nowhere: where it stands, and what is wrong."""
    for kind in kinds(file):
        for name, model in kind.models.items():
            routes: Sequence[Route | ImageRoute] = model.routes
            for index, route in enumerate(routes):
                if route.upstream not in kind.upstreams:
                    told = f"there is no [{kind.upstream_name}.{_quoted(route.upstream)}]"
                    yield (kind.name, name, "routes", index), told
            if model.successor is not None and model.successor not in kind.models:
                told = f"there is no [{kind.name}.{_quoted(model.successor)}]"
                yield (kind.name, name, "successor"), told
    for name in file.models.keys() & file.image_models.keys():
        yield ("image_models", name), f"there is a [models.{_quoted(name)}], too"


def _quoted(name: str) -> str:
    return f'"{name}"'


_REASONS = {
    "missing": "it is missing",
    "extra_forbidden": "there is no such key",
    "too_short": "it must not be empty",
    "string_too_short": "it must not be empty",
    "string_type": "it must be a string",
    "int_type": "it must be a whole number",
    "bool_type": "it must be true or false",
    "list_type": "it must be a list",
    "dict_type": "it must be a table",
    "model_type": "it must be a table",
    "invalid-json-value": "it must be what JSON can say",
    "date_type": "it must be a date such as 2027-01-14",
}


def _reason(problem: Any) -> str:
    """Say what is wrong, as a phrase."""
    kind, context = problem["type"], problem.get("ctx", {})
    if kind in _REASONS:
        return _REASONS[kind]
    if kind == "value_error":
        return str(context["error"])
    if kind == "greater_than_equal":
        return f"it must be at least {context['ge']}"
    if kind == "literal_error":
        return f"it must be {context['expected']}"
    return str(problem["msg"])


@dataclass(frozen=True)
class Source:
    """The text and what it says. tomllib keeps no lines: they are looked for once one is needed."""

    path: Path
    text: str
    tables: dict[str, Any]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return what `path` holds; raise `InvalidCatalog` where that is no TOML."""
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            reason = f"it cannot be read: {error.strerror}"
            raise InvalidCatalog(Remark(path, None, "", reason)) from None
        except UnicodeDecodeError as error:
            reason = f"it cannot be read: it is no UTF-8 ({error})"
            raise InvalidCatalog(Remark(path, None, "", reason)) from None
        try:
            return cls(path, text, tomllib.loads(text, parse_float=Decimal))
        except tomllib.TOMLDecodeError as error:
            line, reason = _syntax_error(str(error), text)
            raise InvalidCatalog(Remark(path, line, "", reason)) from None

    def file(self) -> File:
        """Return what it says; raise `InvalidCatalog` naming the line of every mistake."""
        try:
            file = File.model_validate(self.tables)
        except ValidationError as error:
            problems = [(p["loc"], _reason(p)) for p in error.errors()]
            raise InvalidCatalog(*self.remarks(problems)) from None
        if dangling := list(_dangling(file)):
            raise InvalidCatalog(*self.remarks(dangling))
        return file

    def remarks(self, told: Iterable[tuple[Place, str]]) -> list[Remark]:
        """Return what is told of some places, with the line of each."""
        lines = _lines(self.text)
        return [
            Remark(self.path, self._line(place, lines), _dotted(place), message)
            for place, message in told
        ]

    def _line(self, place: Place, lines: dict[Place, int]) -> int:
        """Return the line of `place`, or of the nearest table around it that is there."""
        around = next(
            place[:depth] for depth in range(len(place), -1, -1) if place[:depth] in lines
        )
        start = lines[around]
        value = self._value(place)
        if around == place or not isinstance(value, str):
            return start
        rest = self.text.splitlines()[start - 1 :]
        return next((n for n, line in enumerate(rest, start) if _quoted(value) in line), start)

    def _value(self, place: Place) -> Any:
        """Return what stands at `place`, a route's upstream for a route; None where nothing is."""
        value: Any = self.tables
        for step in place:
            try:
                value = value[step]
            except (LookupError, TypeError):
                return None
        return value.get("upstream") if isinstance(value, dict) else value


def _syntax_error(message: str, text: str) -> tuple[int, str]:
    """Split `Expected '=' after a key (at line 3, column 5)` into the line and the reason."""
    reason, _, where = message.partition(" (at ")
    line = re.match(r"line (\d+)", where)
    return (int(line[1]) if line else len(text.splitlines()) or 1), reason


def _lines(text: str) -> dict[Place, int]:
    """Return the line on which each table and key of the TOML document `text` begins."""
    found: dict[Place, int] = {(): 1}
    table: Place = ()
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("["):
            table = place = _keys(line)
        elif key := re.match(r"[^=\[\]{}#]+=", line):
            place = table + _keys(f"{key[0]} 0")
        else:
            continue
        for depth in range(1, len(place) + 1):
            found.setdefault(place[:depth], number)
    return found


def _keys(line: str) -> Place:
    """Return the keys that one line of TOML names: `[plans.free]` is `("plans", "free")`."""
    try:
        value: Any = tomllib.loads(line)
    except tomllib.TOMLDecodeError:
        return ()
    keys: list[str] = []
    while isinstance(value, dict) and value:
        key, value = next(iter(value.items()))
        keys.append(key)
    return tuple(keys)


def _dotted(place: Place) -> str:
    """Return `models."gpt-4".routes[0]` for `("models", "gpt-4", "routes", 0)`."""
    steps = (_step(step) for step in place if step != "[key]")
    return "".join(steps).removeprefix(".")


def _step(step: int | str) -> str:
    if isinstance(step, int):
        return f"[{step}]"
    return f".{step}" if re.fullmatch(r"[\w-]+", step, re.ASCII) else f".{_quoted(step)}"
