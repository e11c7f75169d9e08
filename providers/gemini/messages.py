"""A conversation in Gemini's words: the turns of user and model, and what is said before them.

Gemini knows no `tool_call_id` without a function's name, no URL of an image and no empty text, so
names are looked up, media are sent along, and what says nothing is left out.
"""

import base64
import mimetypes
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote_to_bytes

import orjson

from models.errors import InvalidRequest
from net.call import Call
from providers.parameters import Message, parts_of
from providers.wire import caller_images

Part = dict[str, Any]
Turn = dict[str, Any]

#: What stands for a turn that says nothing, since Gemini refuses one without parts.
BLANK: Part = {"text": " "}
#: Taken in the place of a thought's signature that was lost. Gemini 3 refuses a call without one.
NO_SIGNATURE = "skip_thought_signature_validator"

_SYSTEM = ("system", "developer")


def system_instruction(messages: list[Message]) -> Turn | None:
    """Return what the system and the developer say, wherever they say it."""
    said = [message for message in messages if message["role"] in _SYSTEM]
    parts = [{"text": text} for message in said for text in _texts(message)]
    return {"parts": parts} if parts else None


def contents(messages: list[Message], call: Call, *, signed: bool) -> list[Turn]:
    """Return the turns that `messages` make, neighbours of one role in one.

    Where they have to be `signed`, the first call of a turn is, whatever became of its signature.
    Fetches what is named by its URL. Raises `InvalidRequest` for what cannot be read.
    """
    turns: list[Turn] = []
    names: dict[str, str] = {}
    for place, message in enumerate(messages):
        if message["role"] in _SYSTEM:
            continue
        role, parts = _turn(message, f"messages[{place}]", names, call)
        if turns and turns[-1]["role"] == role:
            turns[-1]["parts"] += parts
        elif parts:
            turns.append({"role": role, "parts": parts})
    for turn in turns if signed else ():
        _sign(turn)
    return turns or [{"role": "user", "parts": [BLANK]}]


def _turn(message: Message, at: str, names: dict[str, str], call: Call) -> tuple[str, list[Part]]:
    """Return whose turn a message is, and its parts; `names` are those of the calls, by id."""
    match message["role"]:
        case "assistant":
            return "model", [*_said(message), *_calls(message, at, names)]
        case "tool":
            return "user", [_result(message, at, names)]
        case "function":
            return "user", [_answer_of(message["name"], message)]
        case _:
            return "user", list(_user_parts(message, at, call)) or [BLANK]


def _texts(message: Message) -> Iterator[str]:
    content = message.get("content")
    if isinstance(content, str) and content:
        yield content
    for part in parts_of(message):
        if text := part.get("text") or part.get("refusal"):
            yield text


def _said(message: Message) -> Iterator[Part]:
    for text in (*_texts(message), message.get("refusal")):
        if text:
            yield {"text": text}


# ---- Calls and their results ---------------------------------------------------------------------


def _calls(message: Message, at: str, names: dict[str, str]) -> Iterator[Part]:
    if called := message.get("function_call"):
        yield {"functionCall": _called(called, f"{at}.function_call")}
    for place, found in enumerate(message.get("tool_calls") or ()):
        function = found["function"]
        names[found["id"]] = function["name"]
        called = _called(function, f"{at}.tool_calls[{place}].function")
        yield {"functionCall": {"id": found["id"]} | called, **_signature(found)}


def _called(function: dict[str, Any], at: str) -> dict[str, Any]:
    return {"name": function["name"], "args": _arguments(function["arguments"], at)}


def _arguments(text: str, at: str) -> dict[str, Any]:
    arguments = _object(text) if text.strip() else {}
    if arguments is None:
        param = f"{at}.arguments"
        raise InvalidRequest(
            f"Invalid value for '{param}': it must be a JSON object in a string.", param=param
        )
    return arguments


def _signature(found: dict[str, Any]) -> dict[str, str]:
    extra = found.get("extra_content")
    google = extra.get("google") if isinstance(extra, dict) else None
    signature = google.get("thought_signature") if isinstance(google, dict) else None
    return {"thoughtSignature": signature} if isinstance(signature, str) and signature else {}


def _sign(turn: Turn) -> None:
    calls = [part for part in turn["parts"] if "functionCall" in part]
    if calls:
        calls[0].setdefault("thoughtSignature", NO_SIGNATURE)


def _result(message: Message, at: str, names: dict[str, str]) -> Part:
    call_id = message["tool_call_id"]
    if call_id not in names:
        param = f"{at}.tool_call_id"
        raise InvalidRequest(f"'{param}' is not the id of a call before it.", param=param)
    return _answer_of(names[call_id], message, id=call_id)


def _answer_of(name: str, message: Message, **ids: str) -> Part:
    text = "\n".join(_texts(message))
    response = _object(text)
    said = {"result": text} if response is None else response
    return {"functionResponse": {**ids, "name": name, "response": said}}


def _object(text: str) -> dict[str, Any] | None:
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None


# ---- What users show -----------------------------------------------------------------------------


def _user_parts(message: Message, at: str, call: Call) -> Iterator[Part]:
    if isinstance(message["content"], str):
        yield from _said(message)
    for place, part in enumerate(parts_of(message)):
        where = f"{at}.content[{place}]"
        match part["type"]:
            case "image_url":
                yield _inline(part["image_url"]["url"], f"{where}.image_url.url", call)
            case "input_audio":
                yield _audio(part["input_audio"], f"{where}.input_audio")
            case "file":
                yield _file(part["file"], f"{where}.file.file_data", call)
            case kind if part[kind]:
                yield {"text": part[kind]}


def _inline(url: str, param: str, call: Call) -> Part:
    if url.startswith("data:"):
        return _data_url(url, param)
    found = caller_images.fetch(call, url, param)
    return _blob(found.media_type, base64.b64encode(found.data).decode())


def _data_url(url: str, param: str) -> Part:
    head, _, data = url.removeprefix("data:").partition(",")
    media_type, *options = head.split(";")
    if not media_type or not data:
        raise InvalidRequest(
            f"Invalid value for '{param}': a data URL needs a type and data, "
            "as in 'data:image/png;base64,…'.",
            param=param,
        )
    if "base64" not in options:
        data = base64.b64encode(unquote_to_bytes(data)).decode()
    return _blob(media_type, data)


def _audio(found: dict[str, Any], param: str) -> Part:
    data, kind = found.get("data"), found.get("format")
    if not isinstance(data, str) or not isinstance(kind, str):
        raise InvalidRequest(
            f"Invalid value for '{param}': it needs data in base64 and a format.", param=param
        )
    return _blob(f"audio/{kind}", data)


def _file(found: dict[str, Any], param: str, call: Call) -> Part:
    data = found.get("file_data")
    if not isinstance(data, str):
        raise InvalidRequest(
            f"Invalid value for '{param}': it must be the file, as a data URL.", param=param
        )
    if data.startswith(("data:", "http://", "https://")):
        return _inline(data, param, call)
    media_type, _ = mimetypes.guess_type(str(found.get("filename")))
    return _blob(media_type or "application/pdf", data)


def _blob(media_type: str, data: str) -> Part:
    return {"inlineData": {"mimeType": media_type, "data": data}}
