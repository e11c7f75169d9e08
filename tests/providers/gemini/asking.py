"""What Gemini is asked in tests, and what becomes of it in its words."""

from typing import Any

from net.call import Call
from providers.gemini.chat import Gemini
from providers.wire.image_room import Room
from tests.providers.requests_and_routes import chat, route

FLASH, OLD_FLASH, OLD_PRO = "gemini-3.8-flash", "gemini-2.5-flash", "gemini-2.5-pro"
TOOLS = [{"type": "function", "function": {"name": "f"}}]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
HELLO = {"role": "user", "parts": [{"text": "Hello!"}]}
PIXEL = "data:image/png;base64,aGk="


def sent(model: str = FLASH, *, limit: int | None = None, **parameters: Any) -> dict[str, Any]:
    """Return what goes to `model`, which thinks, once the check has let it through."""
    request, way = chat(**parameters), route("gemini", model=model, reasoning=True)
    Gemini().check(request, way)
    return Gemini().payload(request, way, limit, Room(Call(5)))


def config(model: str = FLASH, **parameters: Any) -> dict[str, Any]:
    """Return the configuration without what is there anyway."""
    found = dict(sent(model, **parameters)["generationConfig"])
    return {n: v for n, v in found.items() if n not in ("temperature", "thinkingConfig")}


def thinking(model: str = FLASH, **parameters: Any) -> Any:
    return sent(model, **parameters)["generationConfig"]["thinkingConfig"]


def contents(*messages: dict[str, Any], model: str = FLASH) -> Any:
    return sent(model, messages=list(messages))["contents"]


def user(content: Any = "Hello!") -> dict[str, Any]:
    return {"role": "user", "content": content}


def calling(*ids: str, name: str = "f", arguments: str = "{}", **more: Any) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    calls = [{"id": i, "type": "function", "function": function} | more for i in ids]
    return {"role": "assistant", "content": None, "tool_calls": calls}


def result(call_id: str, content: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": content}
