"""A schema is the caller's: whatever it asks for, its value is small and soon there."""

from typing import Any

import orjson
import pytest

from providers.sandbox.schema import MAX_CHARACTERS, MAX_VALUES, valid_value

ITSELF = {"$ref": "#"}


def values(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + sum(map(values, inner))


@pytest.mark.parametrize(
    "schema",
    [
        {"required": list("abcde"), "properties": dict.fromkeys("abcde", ITSELF)},
        {"properties": {str(number): ITSELF for number in range(20_000)}},
        {"type": "array", "minItems": 1_000_000_000, "items": {"minLength": 1_000_000_000}},
        {"minLength": 1e300},
        {"properties": {"a" * MAX_CHARACTERS: ITSELF}},
        {
            "type": "array",
            "minItems": 1000,
            "items": {"$ref": "#/$defs/large"},
            "$defs": {"large": {"const": "x" * (MAX_CHARACTERS // 3)}},
        },
        {"allOf": [{"properties": {str(number): ITSELF}} for number in range(2000)]},
    ],
    ids=lambda schema: str(schema)[:40],
)
def test_a_value_is_bounded(schema: dict[str, Any]) -> None:
    value = valid_value(schema)

    assert values(value) <= 2 * MAX_VALUES
    assert len(orjson.dumps(value)) <= 2 * MAX_CHARACTERS


@pytest.mark.parametrize(
    "schema",
    [
        {"type": []},
        {"type": {}},
        {"type": [None, 1]},
        {"$ref": 5},
        {"$ref": "#/" * 500},
        {"type": "array", "minItems": "x"},
        {"minLength": None},
        {"maxLength": -1},
        {"format": {}},
        {"enum": {}},
        {"anyOf": {}},
        {"oneOf": [None]},
        {"allOf": [1]},
        {"allOf": [{"$ref": 5}, {"properties": [], "required": {}}]},
        {"properties": 3, "required": [1, None, ["a"]]},
        {"type": "number", "multipleOf": 0},
        {"type": "integer", "multipleOf": 1e-320, "minimum": 5},
        {"type": "integer", "minimum": 1e308, "maximum": "x"},
    ],
    ids=str,
)
def test_what_is_malformed_in_a_schema_is_ignored(schema: dict[str, Any]) -> None:
    whole = {"properties": {"odd": schema, "sound": {"const": 7}}}

    assert orjson.dumps(valid_value(schema))
    assert valid_value(whole)["sound"] == 7
