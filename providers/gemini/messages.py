"""Translating a conversation for Gemini: a system instruction, and turns of user and model.

Gemini wants the function's name beside a `tool_call_id`, does not fetch the URLs of images, and
refuses empty texts. So names are looked up, media are sent as bytes, and empty texts are left out.
"""

import base64
import mimetypes
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import unquote_to_bytes

import orjson

from models.errors import InvalidRequest
from providers.parameters import Message, parts_of
from providers.wire.caller_images import Media

Part = dict[str, Any]
Turn = dict[str, Any]
#: Fetches the image at a URL, whose path in the request is given, too.
Fetch = Callable[[str, str], Media]

#: The part of an otherwise empty turn, since Gemini refuses turns without parts.
BLANK: Part = {"text": " "}
#: Google's placeholder for a lost thought signature. Gemini 3 refuses a call without a signature.
NO_SIGNATURE = "skip_thought_signature_validator"

_FETCHED = ("http://", "https://")
_SYSTEM = ("system", "developer")


def system_instruction(messages: list[Message]) -> Turn | None:
    """Return the system and developer messages, from anywhere in the history; None without any."""
    system_messages = [message for message in messages if message["role"] in _SYSTEM]
    parts = [{"text": text} for message in system_messages for text in _texts(message)]
    return {"parts": parts} if parts else None


def contents(messages: list[Message], fetch: Fetch, *, signed: bool) -> list[Turn]:
    """Return the turns of the conversation; adjacent messages of one role make one turn.

    If `signed`, the first call of each turn gets a placeholder if its signature is missing. Media
    given as URLs are fetched with `fetch`. Raises `InvalidRequest` for messages that cannot be
    translated.
    """
    turns: list[Turn] = []
    names: dict[str, str] = {}
    for index, message in enumerate(messages):
        if message["role"] in _SYSTEM:
            continue
        role, parts = _turn(message, f"messages[{index}]", names, fetch)
        if turns and turns[-1]["role"] == role:
            turns[-1]["parts"] += parts
        elif parts:
            turns.append({"role": role, "parts": parts})
    for turn in turns if signed else ():
        _sign(turn)
    return turns or [{"role": "user", "parts": [BLANK]}]


def image_urls(messages: list[Message]) -> Iterator[str]:
    """Yield the path in the request of each image, or file, that would be fetched."""
    for index, message in enumerate(messages):
        for part_index, part in enumerate(parts_of(message)):
            fields = part.get(part["type"])
            for name in ("url", "file_data"):
                value = fields.get(name) if isinstance(fields, dict) else None
                if isinstance(value, str) and value.startswith(_FETCHED):
                    yield f"messages[{index}].content[{part_index}]"


def _turn(
    message: Message, path: str, names: dict[str, str], fetch: Fetch
) -> tuple[str, list[Part]]:
    """Return the role and the parts of a message.

    `path` is the message's path in the request; `names` holds the function names of the calls so
    far, by id, and is extended by the message's calls.
    """
    match message["role"]:
        case "assistant":
            return "model", [*_text_parts(message), *_calls(message, path, names)]
        case "tool":
            return "user", [_tool_result(message, path, names)]
        case "function":
            return "user", [_function_response(message["name"], message)]
        case _:
            return "user", list(_user_parts(message, path, fetch)) or [BLANK]


def _texts(message: Message) -> Iterator[str]:
    content = message.get("content")
    if isinstance(content, str) and content:
        yield content
    for part in parts_of(message):
        if text := part.get("text") or part.get("refusal"):
            yield text


def _text_parts(message: Message) -> Iterator[Part]:
    for text in (*_texts(message), message.get("refusal")):
        if text:
            yield {"text": text}


# ---- Calls and their results ---------------------------------------------------------------------


def _calls(message: Message, path: str, names: dict[str, str]) -> Iterator[Part]:
    if function := message.get("function_call"):
        yield {"functionCall": _function_call(function, f"{path}.function_call")}
    for index, tool_call in enumerate(message.get("tool_calls") or ()):
        function = tool_call["function"]
        names[tool_call["id"]] = function["name"]
        function_call = _function_call(function, f"{path}.tool_calls[{index}].function")
        yield {"functionCall": {"id": tool_call["id"]} | function_call, **_signature(tool_call)}


def _function_call(function: dict[str, Any], path: str) -> dict[str, Any]:
    return {"name": function["name"], "args": _arguments(function["arguments"], path)}


def _arguments(text: str, path: str) -> dict[str, Any]:
    arguments = _json_object(text) if text.strip() else {}
    if arguments is None:
        param = f"{path}.arguments"
        raise InvalidRequest(
            f"Invalid value for '{param}': it must be a JSON object in a string.", param=param
        )
    return arguments


def _signature(tool_call: dict[str, Any]) -> dict[str, str]:
    extra = tool_call.get("extra_content")
    google = extra.get("google") if isinstance(extra, dict) else None
    signature = google.get("thought_signature") if isinstance(google, dict) else None
    return {"thoughtSignature": signature} if isinstance(signature, str) and signature else {}


def _sign(turn: Turn) -> None:
    calls = [part for part in turn["parts"] if "functionCall" in part]
    if calls:
        calls[0].setdefault("thoughtSignature", NO_SIGNATURE)


def _tool_result(message: Message, path: str, names: dict[str, str]) -> Part:
    call_id = message["tool_call_id"]
    if call_id not in names:
        param = f"{path}.tool_call_id"
        raise InvalidRequest(f"'{param}' is not the id of a call before it.", param=param)
    return _function_response(names[call_id], message, id=call_id)


def _function_response(name: str, message: Message, **ids: str) -> Part:
    text = "\n".join(_texts(message))
    response = _json_object(text)
    if response is None:
        response = {"result": text}
    return {"functionResponse": {**ids, "name": name, "response": response}}


def _json_object(text: str) -> dict[str, Any] | None:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


# ---- Parts of user messages ----------------------------------------------------------------------


def _user_parts(message: Message, path: str, fetch: Fetch) -> Iterator[Part]:
    if isinstance(message["content"], str):
        yield from _text_parts(message)
    for index, part in enumerate(parts_of(message)):
        part_path = f"{path}.content[{index}]"
        match part["type"]:
            case "image_url":
                yield _inline(part["image_url"]["url"], f"{part_path}.image_url.url", fetch)
            case "input_audio":
                yield _audio(part["input_audio"], f"{part_path}.input_audio")
            case "file":
                yield _file(part["file"], f"{part_path}.file.file_data", fetch)
            case kind if part[kind]:
                yield {"text": part[kind]}


def _inline(url: str, param: str, fetch: Fetch) -> Part:
    if url.startswith("data:"):
        return _data_url(url, param)
    media = fetch(url, param)
    return _blob(media.media_type, base64.b64encode(media.data).decode())


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


def _audio(audio: dict[str, Any], param: str) -> Part:
    data, kind = audio.get("data"), audio.get("format")
    if not isinstance(data, str) or not isinstance(kind, str):
        raise InvalidRequest(
            f"Invalid value for '{param}': it needs data in base64 and a format.", param=param
        )
    return _blob(f"audio/{kind}", data)


def _file(file: dict[str, Any], param: str, fetch: Fetch) -> Part:
    data = file.get("file_data")
    if not isinstance(data, str):
        raise InvalidRequest(
            f"Invalid value for '{param}': it must be the file, as a data URL.", param=param
        )
    if data.startswith(("data:", *_FETCHED)):
        return _inline(data, param, fetch)
    media_type, _ = mimetypes.guess_type(str(file.get("filename")))
    return _blob(media_type or "application/pdf", data)


def _blob(media_type: str, data: str) -> Part:
    return {"inlineData": {"mimeType": media_type, "data": data}}
