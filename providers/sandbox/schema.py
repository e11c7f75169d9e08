"""Making a value that is valid under a JSON schema."""

from collections.abc import Mapping
from typing import Any

import orjson

LABEL = "[sandbox] This is not a real model's answer."

#: A JSON schema may refer to itself. Below this depth, only required properties are filled in, and
#: below twice this depth every value is null.
MAX_DEPTH = 8

Schema = Mapping[str, Any]


def labelled(schema: Schema) -> Any:
    """Return a value valid under `schema`, with the sandbox's label if extra fields are allowed."""
    value = valid_value(schema)
    if isinstance(value, dict) and schema.get("additionalProperties", True) is True:
        value.setdefault("sandbox", LABEL)
    return value


def valid_value(schema: Any, root: Any = None, depth: int = 0) -> Any:
    """Return a simple value valid under `schema`, always the same one.

    `root` is the schema that references are resolved in, by default `schema`.
    """
    root = schema if root is None else root
    if not isinstance(schema, dict) or depth > 2 * MAX_DEPTH:
        return None
    if "$ref" in schema:
        return valid_value(_resolved(schema["$ref"], root), root, depth + 1)
    for fixed in ("const", "default"):
        if fixed in schema:
            return schema[fixed]
    if schema.get("enum"):
        return schema["enum"][0]
    for union in ("anyOf", "oneOf"):
        if schema.get(union):
            return valid_value(_simplest(schema[union]), root, depth + 1)
    if schema.get("allOf"):
        return valid_value(_merged(schema, root), root, depth + 1)
    return _typed_value(schema, root, depth)


def _typed_value(schema: Schema, root: Any, depth: int) -> Any:
    match _type(schema):
        case "object":
            return _object_value(schema, root, depth)
        case "array":
            count = int(schema.get("minItems", 0 if depth > MAX_DEPTH else 1))
            return [valid_value(schema.get("items", {}), root, depth + 1) for _ in range(count)]
        case "string":
            return _string_value(schema)
        case "integer" | "number" as kind:
            return _number_value(schema, kind)
        case "boolean":
            return True
        case _:
            return None


def _type(schema: Schema) -> str:
    named = schema.get("type", "object" if "properties" in schema else "string")
    return str(named[0] if isinstance(named, list) else named)


def _object_value(schema: Schema, root: Any, depth: int) -> dict[str, Any]:
    properties = schema.get("properties") or {}
    required = schema.get("required") or []
    names = required if depth > MAX_DEPTH else dict.fromkeys([*properties, *required])
    return {name: valid_value(properties.get(name, {}), root, depth + 1) for name in names}


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


def _string_value(schema: Schema) -> str:
    text = _FORMATS.get(str(schema.get("format")), LABEL)
    text = text.ljust(int(schema.get("minLength", 0)), ".")
    return text[: int(schema.get("maxLength", len(text)))]


def _number_value(schema: Schema, kind: str) -> int | float:
    """Return a small number within the schema's bounds, positive if possible."""
    step = schema.get("multipleOf") or 1
    minimum = schema.get("minimum", schema.get("exclusiveMinimum", 0))
    maximum = schema.get("maximum", schema.get("exclusiveMaximum"))
    number = -(-minimum // step) * step
    has_room = maximum is None or maximum > step
    if number == schema.get("exclusiveMinimum") or (number < 1 and has_room):
        number += step
    if maximum is not None and number > maximum:
        number = maximum
    return int(number) if kind == "integer" else number


def _simplest(members: list[Any]) -> Any:
    """Return the first member that is not null, or else the first."""
    return next((member for member in members if member != {"type": "null"}), members[0])


def _merged(schema: Schema, root: Any) -> Schema:
    """Return one schema for all members of `allOf`."""
    merged: dict[str, Any] = {name: value for name, value in schema.items() if name != "allOf"}
    for member in schema["allOf"]:
        resolved = _resolved(member["$ref"], root) if "$ref" in member else member
        properties = {**merged.get("properties", {}), **resolved.get("properties", {})}
        required = [*merged.get("required", []), *resolved.get("required", [])]
        merged = {**merged, **resolved, "required": required}
        if properties:
            merged["properties"] = properties
    return merged


def _resolved(reference: str, root: Any) -> Any:
    """Return the schema that a reference such as `#/$defs/Name` points at, or `{}`."""
    schema = root
    for step in reference.removeprefix("#").split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        schema = schema.get(name, {}) if isinstance(schema, dict) else {}
    return schema


def json(value: Any) -> str:
    """Return `value` as JSON text."""
    return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS).decode()
