"""Where in the catalogue's file something is wrong: lines, paths and reasons."""

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError

from config.catalog.tables import (
    File,
    ImageModel,
    ImageRoute,
    ImageUpstream,
    Model,
    Route,
    Upstream,
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
