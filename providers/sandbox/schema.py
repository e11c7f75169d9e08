"""Making a value that is valid under a JSON schema.

The schema is the caller's: it may be malformed, refer to itself, or ask for a billion items. What
cannot be understood is ignored, and the value is bounded: beyond the bounds everything is null.
"""

import math
from collections.abc import Iterator, Mapping
from itertools import chain, islice
from typing import Any

import orjson

LABEL = "[sandbox] This is not a real model's answer."

#: A JSON schema may refer to itself. Below this depth, only required properties are filled in, and
#: below twice this depth every value is null.
MAX_DEPTH = 8
#: Values of one answer, and its characters: names, texts, and constants as JSON.
MAX_VALUES = 1000
MAX_CHARACTERS = 256 * 1024
#: Of a schema's `anyOf`, `oneOf` or `allOf`, these many are read; of a reference, these characters.
MAX_MEMBERS = 100
MAX_REFERENCE_CHARACTERS = 1000
#: JSON's whole numbers that every reader can hold exactly.
MAX_NUMBER = 2**53

Schema = Mapping[str, Any]


def labelled(schema: Schema) -> Any:
    """Return a value valid under `schema`, with the sandbox's label if extra fields are allowed."""
    value = valid_value(schema)
    if isinstance(value, dict) and schema.get("additionalProperties", True) is True:
        value.setdefault("sandbox", LABEL)
    return value


def valid_value(schema: Any) -> Any:
    """Return a simple value valid under `schema`, always the same one."""
    return _Maker(schema).value(schema, 0)


class _Maker:
    """Makes one value of one schema, in which references are resolved."""

    def __init__(self, root: Any) -> None:
        self._root = root
        self._values_left = MAX_VALUES
        self._characters_left = MAX_CHARACTERS

    def value(self, schema: Any, depth: int) -> Any:
        self._values_left -= 1
        if not isinstance(schema, dict) or depth > 2 * MAX_DEPTH or self._is_over:
            return None
        if isinstance(schema.get("$ref"), str):
            return self.value(self._resolved(schema["$ref"]), depth + 1)
        for fixed in ("const", "default"):
            if fixed in schema:
                return self._fixed(schema[fixed])
        if enum := _items(schema.get("enum")):
            return self._fixed(enum[0])
        for union in ("anyOf", "oneOf"):
            if members := _items(schema.get(union)):
                return self.value(_simplest(members), depth + 1)
        if members := _items(schema.get("allOf")):
            return self.value(self._merged(schema, members), depth + 1)
        return self._typed(schema, depth)

    @property
    def _is_over(self) -> bool:
        return self._values_left < 0 or self._characters_left < 0

    def _fixed(self, value: Any) -> Any:
        """Return a constant of the schema, which may be as large as a request."""
        self._characters_left -= len(orjson.dumps(value))
        return None if self._is_over else value

    def _typed(self, schema: Schema, depth: int) -> Any:
        match _type(schema):
            case "object":
                return self._object(schema, depth)
            case "array":
                return self._array(schema, depth)
            case "string":
                return self._string(schema)
            case "integer" | "number" as kind:
                return _number_value(schema, kind)
            case "boolean":
                return True
            case _:
                return None

    def _object(self, schema: Schema, depth: int) -> dict[str, Any]:
        properties = _fields(schema.get("properties"))
        required = _items(schema.get("required"))
        value: dict[str, Any] = {}
        for name in required if depth > MAX_DEPTH else chain(properties, required):
            if isinstance(name, str) and name not in value:
                self._characters_left -= len(name)
                if self._is_over:
                    break
                value[name] = self.value(properties.get(name, {}), depth + 1)
        return value

    def _array(self, schema: Schema, depth: int) -> list[Any]:
        values: list[Any] = []
        count = _count(schema.get("minItems"), 0 if depth > MAX_DEPTH else 1)
        while len(values) < count and not self._is_over:
            values.append(self.value(schema.get("items", {}), depth + 1))
        return values

    def _string(self, schema: Schema) -> str:
        named = schema.get("format")
        text = _FORMATS.get(named, LABEL) if isinstance(named, str) else LABEL
        min_length = min(_count(schema.get("minLength"), 0), max(0, self._characters_left))
        text = text.ljust(min_length, ".")
        text = text[: _count(schema.get("maxLength"), len(text))]
        self._characters_left -= len(text)
        return text

    def _merged(self, schema: Schema, members: list[Any]) -> Schema:
        """Return one schema for `schema` and all members of its `allOf`."""
        self._values_left -= len(members)
        merged: dict[str, Any] = {}
        properties: dict[str, Any] = {}
        required: list[Any] = []
        for member in (schema, *map(self._resolved_member, members)):
            merged |= {name: member[name] for name in _TYPED if name in member}
            properties.update(islice(_fields(member.get("properties")).items(), MAX_VALUES))
            required += _items(member.get("required"))[:MAX_VALUES]
        return merged | {"required": required} | ({"properties": properties} if properties else {})

    def _resolved_member(self, member: Any) -> Schema:
        fields = _fields(member)
        reference = fields.get("$ref")
        return _fields(self._resolved(reference)) if isinstance(reference, str) else fields

    def _resolved(self, reference: str) -> Any:
        """Return the schema that a reference such as `#/$defs/Name` points at, or `{}`."""
        schema = self._root
        for step in reference[:MAX_REFERENCE_CHARACTERS].removeprefix("#").split("/")[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            schema = schema.get(name, {}) if isinstance(schema, dict) else {}
        return schema


# ---- What a keyword says -------------------------------------------------------------------------

#: The keywords that decide about a value by themselves.
_TYPED = (
    *("$ref", "const", "default", "enum", "anyOf", "oneOf", "type", "items", "minItems", "format"),
    *("minLength", "maxLength", "multipleOf", "minimum", "maximum"),
    *("exclusiveMinimum", "exclusiveMaximum"),
)

#: A value for each format that a client may parse.
_FORMATS = {
    "date-time": "2026-01-01T00:00:00Z",
    "date": "2026-01-01",
    "time": "00:00:00Z",
    "duration": "PT1S",
    "email": "sandbox@example.com",
    "hostname": "example.com",
    "uri": "https://example.com/sandbox",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _fields(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _type(schema: Schema) -> str:
    named = schema.get("type")
    names = [name for name in _items(named)[:MAX_MEMBERS] if isinstance(name, str)]
    if isinstance(named, str) or names:
        return named if isinstance(named, str) else names[0]
    return "object" if "properties" in schema else "string"


def _count(value: Any, default: int) -> int:
    number = _number(value)
    return default if number is None or number < 0 else int(number)


def _number(value: Any) -> int | float | None:
    is_number = type(value) in (int, float) and math.isfinite(value) and abs(value) <= MAX_NUMBER
    return value if is_number else None


def _numbers(schema: Schema, *keywords: str) -> Iterator[int | float]:
    """Yield the number of each of the `keywords` that has one."""
    for number in map(_number, map(schema.get, keywords)):
        if number is not None:
            yield number


def _number_value(schema: Schema, kind: str) -> int | float:
    """Return a small number within the schema's bounds, positive if possible."""
    step = next((step for step in _numbers(schema, "multipleOf") if step > 0), 1)
    minimum = next(_numbers(schema, "minimum", "exclusiveMinimum"), 0)
    maximum = next(_numbers(schema, "maximum", "exclusiveMaximum"), None)
    number = _number(-(-minimum // step) * step)
    if number is None:
        number = minimum  # The step is too small to count with.
    has_room = maximum is None or maximum > step
    if number == schema.get("exclusiveMinimum") or (number < 1 and has_room):
        number += step
    if maximum is not None and number > maximum:
        number = maximum
    return int(number) if kind == "integer" else number


def _simplest(members: list[Any]) -> Any:
    """Return the first member that is not null, or else the first."""
    some = members[:MAX_MEMBERS]
    return next((member for member in some if member != {"type": "null"}), members[0])


def json(value: Any) -> str:
    """Return `value` as JSON text."""
    return orjson.dumps(value).decode()
