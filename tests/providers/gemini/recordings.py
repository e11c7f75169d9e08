"""Gemini's recordings, read plainly in OpenAI's words: what was asked, and what was said.

It stands beside the product's own translation, so that one can be held against the other.
"""

import json
import re
from typing import Any

from models.chat_parameters import DEFAULT_TEMPERATURE
from providers.gemini.messages import NO_SIGNATURE
from tests.providers.requests_and_routes import HELLO

Body = dict[str, Any]

#: A reason that means the same as one of OpenAI's.
REASONS = {"STOP": "stop", "MAX_TOKENS": "length", "SAFETY": "content_filter"} | {
    "RECITATION": "content_filter"
}
#: An id that the product makes up for a call that has none.
_CALL = re.compile(r"call_[0-9a-f]{24}")


# ---- What was said


def answer(exchange: Body) -> Body:
    """Return a whole answer as `chat.completion`, without choices where there is no answer."""
    said = _said(json.loads(exchange["response"]["body"]), {}, "message")
    for choice in said["choices"]:
        if choice["message"].get("tool_calls") and choice["finish_reason"] == "stop":
            choice["finish_reason"] = "tool_calls"
        if not any(choice["message"].get(name) for name in ("content", "tool_calls", "images")):
            choice["message"]["content"] = ""
        elif not choice["message"]["content"]:
            choice["message"]["content"] = None if "tool_calls" in choice["message"] else ""
    if not any(choice["finish_reason"] for choice in said["choices"]):
        del said["choices"]
    return said


def events(exchange: Body) -> list[Body]:
    """Return a stream as chunks; a call's end is told in the last one."""
    body = exchange["response"]["body"].replace("\r\n", "\n")
    found = json.loads(body) if body.startswith("[") else _data(body)
    calls: dict[int, int] = {}
    said = [_said(event, calls, "delta") for event in found]
    for choice in said[-1]["choices"]:
        if calls.get(choice["index"]) and choice["finish_reason"] == "stop":
            choice["finish_reason"] = "tool_calls"
    return said


def _data(body: str) -> list[Body]:
    return [json.loads(line[6:]) for line in body.split("\n") if line.startswith("data: {")]


def _said(found: Body, calls: dict[int, int], name: str) -> Body:
    said: Body = {"choices": [_choice(each, calls, name) for each in found.get("candidates", [])]}
    if "responseId" in found:
        said["id"] = found["responseId"]
    if "modelVersion" in found:
        said["model"] = found["modelVersion"].removeprefix("models/")
    if counts := found.get("usageMetadata"):
        said["usage"] = _usage(counts)
    return said


def _usage(counts: Body) -> Body:
    thoughts = counts.get("thoughtsTokenCount", 0)
    cached = counts.get("cachedContentTokenCount", 0)
    return {
        "prompt_tokens": counts["promptTokenCount"] + counts.get("toolUsePromptTokenCount", 0),
        "completion_tokens": counts.get("candidatesTokenCount", 0) + thoughts,
        "total_tokens": counts["totalTokenCount"],
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": thoughts},
    }


def _choice(candidate: Body, calls: dict[int, int], name: str) -> Body:
    index = candidate.get("index", 0)
    said: Body = {"role": "assistant", "content": "", "reasoning_content": ""}
    for part in candidate.get("content", {}).get("parts", []):
        if "text" in part:
            said["reasoning_content" if part.get("thought") else "content"] += part["text"]
        if "inlineData" in part:
            url = f"data:{part['inlineData']['mimeType']};base64,{part['inlineData']['data']}"
            said.setdefault("images", []).append({"type": "image_url", "image_url": {"url": url}})
        if "functionCall" in part:
            said.setdefault("tool_calls", []).append(_call(part, calls.get(index, 0)))
            calls[index] = calls.get(index, 0) + 1
    said = {field: value for field, value in said.items() if value or field == "content"}
    return {"index": index, name: said, "finish_reason": REASONS.get(candidate.get("finishReason"))}


def _call(part: Body, index: int) -> Body:
    called = part["functionCall"]
    arguments = json.dumps(called["args"], ensure_ascii=False, separators=(",", ":"))
    return {
        "index": index,
        "id": called.get("id", ""),
        "function": {"name": called["name"], "arguments": arguments},
    }


def given_id(call_id: str) -> str:
    """Return a call's id, or nothing where the product had to make one up."""
    return "" if _CALL.fullmatch(call_id) else call_id


# ---- What was asked


def request(exchange: Body) -> Body | None:
    """Return the recorded request as OpenAI's, None where OpenAI has no words for it."""
    body = plain(exchange["request"]["body"] or {})
    if not body:
        return None
    if body.keys() - {"contents", "systemInstruction", "tools", "toolConfig", "generationConfig"}:
        return None
    try:
        return {"model": "any", "messages": _messages(body), **_parameters(body)}
    except KeyError:
        return None


def plain(value: Any) -> Any:
    """Return recorded JSON with Gemini's own spelling, and without what says nothing."""
    if isinstance(value, list):
        return [plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    said = {_camel(name): _plain(_camel(name), item) for name, item in value.items()}
    if isinstance(said.get("tools"), dict):
        said["tools"] = [said["tools"]]
    return {name: item for name, item in said.items() if item not in _SILENT.get(name, ({}, []))}


_SILENT: dict[str, tuple[Any, ...]] = {
    "responseModalities": (["TEXT"],),
    "description": ("", None),
    "args": (),
    "response": (),
}
_KEPT = frozenset({"args", "response", "parameters", "parametersJsonSchema"}) | {
    "responseSchema",
    "responseJsonSchema",
}


def _plain(name: str, value: Any) -> Any:
    if name == "systemInstruction":
        parts = plain(value)["parts"]
        parts = [part for part in ([parts] if isinstance(parts, dict) else parts) if part["text"]]
        return {"parts": parts} if parts else {}
    if name == "safetySettings":
        return {}
    return value if name in _KEPT else plain(value)


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(word.capitalize() for word in rest)


def _messages(body: Body) -> list[Body]:
    system = body.get("systemInstruction", {}).get("parts", [])
    found = [{"role": "system", "content": part["text"]} for part in system]
    pending: dict[str, list[str]] = {}
    for turn in body["contents"]:
        found += _turn(turn, pending)
    return found or list(HELLO["messages"])


def _turn(turn: Body, pending: dict[str, list[str]]) -> list[Body]:
    if turn["role"] == "model":
        return [_assistant(turn["parts"], pending)]
    results = [part["functionResponse"] for part in turn["parts"] if "functionResponse" in part]
    if results:
        if len(results) < len(turn["parts"]) or any("parts" in result for result in results):
            raise KeyError("parts")
        return [_tool(result, pending) for result in results]
    return [{"role": "user", "content": [_user_part(part) for part in turn["parts"]]}]


def _tool(result: Body, pending: dict[str, list[str]]) -> Body:
    call_id = pending[result["name"]].pop(0)
    return {"role": "tool", "tool_call_id": call_id, "content": json.dumps(result["response"])}


def _user_part(part: Body) -> Body:
    if "text" in part:
        return {"type": "text", "text": part["text"]}
    if part.keys() != {"inlineData"}:
        raise KeyError("inlineData alone")
    blob = part["inlineData"]
    kind, data = blob["mimeType"], blob["data"]
    if kind.startswith("audio/"):
        return {"type": "input_audio", "input_audio": {"data": data, "format": kind[6:]}}
    url = f"data:{kind};base64,{data}"
    if kind.startswith("image/"):
        return {"type": "image_url", "image_url": {"url": url}}
    return {"type": "file", "file": {"filename": "a", "file_data": url}}


def _assistant(parts: list[Body], pending: dict[str, list[str]]) -> Body:
    texts, calls = [], []
    for place, part in enumerate(parts):
        if part.get("thought") or ("thoughtSignature" in part and "functionCall" not in part):
            raise KeyError("thought")
        if "text" in part:
            texts.append({"type": "text", "text": part["text"]})
            continue
        called = part["functionCall"]
        call_id = called.get("id") or f"recorded_{place}"
        pending.setdefault(called["name"], []).append(call_id)
        function = {"name": called["name"], "arguments": json.dumps(called["args"])}
        call: Body = {"id": call_id, "type": "function", "function": function}
        if signature := part.get("thoughtSignature"):
            call["extra_content"] = {"google": {"thought_signature": signature}}
        calls.append(call)
    return {"role": "assistant", "content": texts or None} | (
        {"tool_calls": calls} if calls else {}
    )


_PARAMETERS = {
    "temperature": "temperature",
    "topP": "top_p",
    "maxOutputTokens": "max_tokens",
    "stopSequences": "stop",
    "seed": "seed",
    "candidateCount": "n",
    "presencePenalty": "presence_penalty",
    "frequencyPenalty": "frequency_penalty",
}
_EFFORTS = {1024: "low", 8192: "medium", 24576: "high", 0: "none"}


def _parameters(body: Body) -> Body:
    config = dict(body.get("generationConfig", {}))
    asked: Body = {}
    thinking = config.pop("thinkingConfig", {})
    if "thinkingLevel" in thinking:
        asked["reasoning_effort"] = thinking["thinkingLevel"]
    if "thinkingBudget" in thinking:
        asked["reasoning_effort"] = _EFFORTS[thinking["thinkingBudget"]]
    if config.pop("responseMimeType", "") == "application/json":
        asked["response_format"] = _format(config)
    asked |= {_PARAMETERS[name]: value for name, value in config.items()}
    if tools := body.get("tools"):
        declared = [each for tool in tools for each in tool["functionDeclarations"]]
        asked["tools"] = [{"type": "function", "function": _function(each)} for each in declared]
    if chosen := body.get("toolConfig"):
        asked["tool_choice"] = _choice_of(chosen["functionCallingConfig"], len(asked["tools"]))
    return asked


def _format(config: Body) -> Body:
    schema = config.pop("responseJsonSchema", None) or config.pop("responseSchema", None)
    if schema is None:
        return {"type": "json_object"}
    return {"type": "json_schema", "json_schema": {"name": "a", "schema": lower(schema)}}


def _function(declared: Body) -> Body:
    schema = declared.get("parametersJsonSchema") or declared.get("parameters")
    told = {name: declared[name] for name in ("name", "description") if name in declared}
    return told | ({"parameters": lower(schema)} if schema else {})


def _choice_of(config: Body, tools: int) -> Any:
    allowed = config.get("allowedFunctionNames", [])
    if len(allowed) == 1:
        return {"type": "function", "function": {"name": allowed[0]}}
    if len(allowed) not in (0, tools):
        raise KeyError("allowedFunctionNames")
    return {"ANY": "required", "NONE": "none", "AUTO": "auto"}[config["mode"]]


def lower(schema: Any) -> Any:
    """Return an OpenAPI schema with the types of JSON Schema."""
    if isinstance(schema, list):
        return [lower(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        name: item.lower() if name == "type" and isinstance(item, str) else lower(item)
        for name, item in schema.items()
    }


# ---- What is the same whoever asks


def essence(body: Body) -> Body:
    """Return a request without what clients may say in one way or another, or not at all."""
    config = dict(body.get("generationConfig", {}))
    for name in ("responseSchema", "responseJsonSchema"):
        if name in config:
            config["responseJsonSchema"] = lower(config.pop(name))
    if config.get("temperature") == DEFAULT_TEMPERATURE:
        del config["temperature"]
    thinking = dict(config.pop("thinkingConfig", {}))
    thinking.pop("includeThoughts", None)
    tools = [each for tool in body.get("tools", []) for each in tool["functionDeclarations"]]
    said = {
        "systemInstruction": body.get("systemInstruction"),
        "contents": [_essential_turn(turn) for turn in body["contents"]],
        "generationConfig": config | ({"thinkingConfig": thinking} if thinking else {}),
        "tools": [_essential_function(each) for each in tools],
        "toolConfig": _essential_choice(body.get("toolConfig"), len(tools)),
    }
    return {name: value for name, value in said.items() if value}


def _essential_turn(turn: Body) -> Body:
    parts = [_essential_part(part) for part in turn["parts"]]
    return {"role": turn["role"], "parts": [part for part in parts if part != {"text": ""}]}


def _essential_part(part: Body) -> Body:
    """Return a part without a call's id, which not all clients send."""
    called = {"functionCall", "functionResponse"} & part.keys()
    without_ids = {
        name: {key: value for key, value in part[name].items() if key != "id"} for name in called
    }
    said = part | without_ids
    if said.get("thoughtSignature") == NO_SIGNATURE:
        del said["thoughtSignature"]
    return said


def _essential_function(declared: Body) -> Body:
    schema = declared.get("parametersJsonSchema") or declared.get("parameters") or {}
    told = {name: declared[name] for name in ("name", "description") if declared.get(name)}
    return told | ({"parametersJsonSchema": lower(schema)} if schema.get("properties") else {})


def _essential_choice(chosen: Any, tools: int) -> Any:
    config = dict((chosen or {}).get("functionCallingConfig", {}))
    if tools > 1 and len(config.get("allowedFunctionNames", [])) == tools:
        del config["allowedFunctionNames"]
    return {} if config.get("mode") == "AUTO" else config
