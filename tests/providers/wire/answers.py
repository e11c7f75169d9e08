"""Answers in OpenAI's shape, read."""

import json
from typing import Any

from providers.wire import answer as wire_answer
from providers.wire import json as wire_json


def read(body: Any) -> dict[str, Any]:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return wire_answer.completion("vendor", wire_json.decoded("vendor", content), {})


def completion(message: dict[str, Any] | None = None, **choice: Any) -> dict[str, Any]:
    said = {"role": "assistant", "content": "Hi."} | (message or {})
    return {"choices": [{"index": 0, "message": said, "finish_reason": "stop"} | choice]}


F = {"name": "f", "arguments": "{}"}
