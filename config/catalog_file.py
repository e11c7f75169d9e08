"""The catalogue's file: what may stand in it, and on which line something wrong does."""

import datetime
import re
import tomllib
from collections.abc import Iterable, Iterator
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


def _known_provider(name: str) -> str:
    provider, _, model = name.partition(":")
    if provider not in PROVIDERS or not model:
        raise ValueError(
            f"{name!r} must be a provider and a model, 'provider:model', with one of the "
            f"providers {', '.join(sorted(PROVIDERS))}"
        )
    return name


def _known_word(word: str) -> str:
    if word not in TAKES:
        raise ValueError(f"{word!r} is not one of {', '.join(sorted(TAKES))}")
    return word


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


class Defaults(_Table):
    chat: ChatDefaults


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
    takes: list[Annotated[str, AfterValidator(_known_word)]] = []
    reasoning: bool = False
    usd_per_million_input: _Amount | None = None
    usd_per_million_output: _Amount | None = None
    retires: datetime.date | None = None


class Route(_Table):
    upstream: str
    extra: Annotated[dict[str, JsonValue], BeforeValidator(_json_numbers)] = {}


class Model(_Table):
    kind: Literal["chat"] = "chat"
    owned_by: _Text
    created: datetime.date | None = None
    routes: Annotated[list[Annotated[Route, BeforeValidator(_route_table)]], Field(min_length=1)]
    price: Price | None = None
    default_output_tokens: _Count | None = None
    successor: str | None = None


class File(_Table):
    defaults: Defaults
    plans: Plans
    timeouts: Timeouts = Timeouts()
    upstream: dict[Annotated[str, AfterValidator(_known_provider)], Upstream]
    models: Annotated[dict[_Text, Model], Field(min_length=1)]


#: A place in the file, as keys from the top: `("models", "gpt-4", "routes", 0)`.
Place = tuple[int | str, ...]


def read(path: Path) -> File:
    """Read the file at `path`; raise `InvalidCatalog` naming the line of every mistake."""
    return Source.read(path).file()


def _dangling(file: File) -> Iterator[tuple[Place, str]]:
    """Yield every name in `file` that leads nowhere: where it stands, and what is wrong."""
    for name, model in file.models.items():
        for index, route in enumerate(model.routes):
            if route.upstream not in file.upstream:
                place = ("models", name, "routes", index)
                yield place, f"there is no [upstream.{_quoted(route.upstream)}]"
        if model.successor is not None and model.successor not in file.models:
            yield ("models", name, "successor"), f"there is no [models.{_quoted(model.successor)}]"


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
