"""What the sandbox is asked in tests."""

from collections.abc import Iterable, Iterator
from typing import Any

from models.chat import ChatRequest
from net.call import Call
from providers.sandbox.chat import Sandbox
from tests.providers.requests_and_routes import route

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "when": {"type": "string", "format": "date"},
        "size": {"type": "integer", "minimum": 3, "maximum": 9},
        "share": {"type": "number", "exclusiveMinimum": 0, "maximum": 0.5},
        "unit": {"enum": ["celsius", "kelvin"]},
        "kind": {"const": "weather"},
        "sure": {"type": "boolean"},
        "maybe": {"anyOf": [{"type": "null"}, {"type": "string"}]},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 5}, "minItems": 2},
        "place": {"$ref": "#/$defs/place"},
    },
    "required": ["name", "place"],
    "additionalProperties": False,
    "$defs": {
        "place": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "within": {"$ref": "#/$defs/place"}},
            "required": ["city"],
        }
    },
}
TOOLS = [
    {"type": "function", "function": {"name": "first"}},
    {"type": "function", "function": {"name": "second", "parameters": SCHEMA}},
]


def ask(
    request: ChatRequest, model: str = "any", limit: int | None = None, call: Call | None = None
) -> dict[str, Any]:
    return Sandbox().complete(request, route("sandbox", model=model), limit, "", call or Call(20))


def text_of(answer: dict[str, Any]) -> str:
    return str(answer["choices"][0]["message"]["content"])


def listen(
    request: ChatRequest, model: str = "any", call: Call | None = None
) -> Iterator[dict[str, Any]]:
    return Sandbox().stream(request, route("sandbox", model=model), None, "", call or Call(20))


def deltas(said: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [choice["delta"] for chunk in said for choice in chunk["choices"]]
