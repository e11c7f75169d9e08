"""The catalogue's file, and diagnostics about it: lines, paths and messages."""

import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError

from config.catalog.fields import KeyPath
from config.catalog.root import Catalog


@dataclass(frozen=True)
class Diagnostic:
    """An error or warning at one path of a catalogue's file."""

    file: Path
    #: None if the file could not be read as text.
    line: int | None
    #: Such as `models."gpt-4".routes[0]`; empty if it is about the whole file.
    path: str
    message: str

    def __str__(self) -> str:
        where = str(self.file) if self.line is None else f"{self.file}, line {self.line}"
        return ": ".join(part for part in (where, self.path, self.message) if part)

    def as_json(self) -> dict[str, Any]:
        return {"line": self.line, "place": self.path, "message": self.message}


class InvalidCatalog(SystemExit):
    """The catalogue is invalid; the message names each line to change, and why."""

    def __init__(self, *errors: Diagnostic) -> None:
        self.errors = errors
        lines = "".join(f"\n  {error}" for error in errors)
        super().__init__(f"likedo: the catalogue cannot be used:{lines}")


_REASONS = {
    "missing": "it is missing",
    "extra_forbidden": "there is no such key",
    "too_short": "it must not be empty",
    "string_too_short": "it must not be empty",
    "string_type": "it must be a string",
    "int_type": "it must be a whole number",
    "bool_type": "it must be true or false",
    "list_type": "it must be a list",
    "tuple_type": "it must be a list",
    "frozen_set_type": "it must be a list",
    "dict_type": "it must be a table",
    "model_type": "it must be a table",
    "invalid-json-value": "it must be a value that JSON can hold",
    "date_type": "it must be a date such as 2027-01-14",
}


def _reason(problem: Any) -> str:
    """Return what is wrong with a value, as a phrase."""
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
    """The file's text and its tables. Line numbers, which tomllib drops, are found when needed."""

    file: Path
    text: str
    tables: dict[str, Any]

    @classmethod
    def read(cls, file: Path) -> Self:
        """Read `file`; raise `InvalidCatalog` if it is not TOML."""
        try:
            text = file.read_text(encoding="utf-8")
        except OSError as error:
            reason = f"it cannot be read: {error.strerror}"
            raise InvalidCatalog(Diagnostic(file, None, "", reason)) from None
        except UnicodeDecodeError as error:
            reason = f"it cannot be read: it is not UTF-8 ({error})"
            raise InvalidCatalog(Diagnostic(file, None, "", reason)) from None
        try:
            return cls(file, text, tomllib.loads(text, parse_float=Decimal))
        except tomllib.TOMLDecodeError as error:
            line, reason = _syntax_error(str(error), text)
            raise InvalidCatalog(Diagnostic(file, line, "", reason)) from None

    def catalog(self) -> Catalog:
        """Validate the tables; raise `InvalidCatalog` naming the line of every mistake."""
        try:
            return Catalog.model_validate(self.tables)
        except ValidationError as error:
            mistakes = [(problem["loc"], _reason(problem)) for problem in error.errors()]
            raise InvalidCatalog(*self.diagnostics(mistakes)) from None

    def diagnostics(self, messages: Iterable[tuple[KeyPath, str]]) -> list[Diagnostic]:
        """Return a diagnostic with its line for each pair of a path and a message."""
        lines = _lines(self.text)
        return [
            Diagnostic(self.file, self._line(path, lines), _dotted(path), message)
            for path, message in messages
        ]

    def _line(self, path: KeyPath, lines: dict[KeyPath, int]) -> int:
        """Return the line of `path`, or of the nearest enclosing table that exists."""
        enclosing = next(
            path[:depth] for depth in range(len(path), -1, -1) if path[:depth] in lines
        )
        start = lines[enclosing]
        value = self._value(path)
        if enclosing == path or not isinstance(value, str):
            return start
        rest = self.text.splitlines()[start - 1 :]
        return next((n for n, line in enumerate(rest, start) if f'"{value}"' in line), start)

    def _value(self, path: KeyPath) -> Any:
        """Return the value at `path`, or its upstream if it is a route; None if there is none."""
        value: Any = self.tables
        for step in path:
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


def _lines(text: str) -> dict[KeyPath, int]:
    """Return the line on which each table and key of the TOML document `text` begins."""
    line_of: dict[KeyPath, int] = {(): 1}
    table: KeyPath = ()
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("["):
            table = path = _keys(line)
        elif key := re.match(r"[^=\[\]{}#]+=", line):
            path = table + _keys(f"{key[0]} 0")
        else:
            continue
        for depth in range(1, len(path) + 1):
            line_of.setdefault(path[:depth], number)
    return line_of


def _keys(line: str) -> KeyPath:
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


def _dotted(path: KeyPath) -> str:
    """Return `models."gpt-4".routes[0]` for `("models", "gpt-4", "routes", 0)`."""
    # If the key itself is invalid, pydantic adds the step "[key]".
    steps = (_step(step) for step in path if step != "[key]")
    return "".join(steps).removeprefix(".")


def _step(step: int | str) -> str:
    if isinstance(step, int):
        return f"[{step}]"
    return f".{step}" if re.fullmatch(r"[\w-]+", step, re.ASCII) else f'."{step}"'
