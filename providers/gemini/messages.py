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

from config.limits import MAX_JSON_DEPTH, MAX_JSON_NODES
from models import bounded_json
from models.errors import InvalidRequest
from ops.turns import in_turns, pause
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

#: Characters of a data URL that are decoded before other greenlets have their turn.
DECODED_CHARACTERS = 64 * 1024


class _History:
    """What translating a message needs to know of those before it."""

    def __init__(self) -> None:
        #: The names of the functions that were called, by the id of the call.
        self.names: dict[str, str] = {}
        #: The arguments and results are JSON in strings. Together they may be as much as a request.
        self.nodes_left = MAX_JSON_NODES

    def decoded(self, text: str) -> dict[str, Any] | None:
        """Return the JSON object in `text`; None if there is none. Raises `TooComplex`."""
        raw = text.encode("utf-8", "replace")
        if not raw.lstrip().startswith(b"{"):
            return None
        bounds = bounded_json.Bounds(self.nodes_left, MAX_JSON_DEPTH)
        nodes = bounded_json.count_nodes(raw, bounds)
        try:
            value = bounded_json.loads(raw, bounds)
        except orjson.JSONDecodeError:
            return None
        self.nodes_left -= nodes
        return value if isinstance(value, dict) else None


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
    history = _History()
    for index, message in in_turns(enumerate(messages)):
        if message["role"] in _SYSTEM:
            continue
        role, parts = _turn(message, f"messages[{index}]", history, fetch)
        if turns and turns[-1]["role"] == role:
            turns[-1]["parts"] += parts
        elif parts:
            turns.append({"role": role, "parts": parts})
    for turn in turns if signed else ():
        _sign(turn)
    return turns or [{"role": "user", "parts": [BLANK]}]


def image_urls(messages: list[Message]) -> Iterator[str]:
    """Yield the path in the request of each image, or file, that would be fetched."""
    for index, message in in_turns(enumerate(messages)):
        for part_index, part in in_turns(enumerate(parts_of(message))):
            fields = part.get(part["type"])
            for name in ("url", "file_data"):
                value = fields.get(name) if isinstance(fields, dict) else None
                if isinstance(value, str) and value.startswith(_FETCHED):
                    yield f"messages[{index}].content[{part_index}]"


def _turn(message: Message, path: str, history: _History, fetch: Fetch) -> tuple[str, list[Part]]:
    """Return the role and the parts of a message.

    `path` is the message's path in the request; the message's calls are added to `history`.
    """
    match message["role"]:
        case "assistant":
            return "model", [*_text_parts(message), *_calls(message, path, history)]
        case "tool":
            return "user", [_tool_result(message, path, history)]
        case "function":
            return "user", [_function_response(message["name"], message, history)]
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


def _calls(message: Message, path: str, history: _History) -> Iterator[Part]:
    if function := message.get("function_call"):
        yield {"functionCall": _function_call(function, f"{path}.function_call", history)}
    for index, tool_call in enumerate(message.get("tool_calls") or ()):
        function = tool_call["function"]
        history.names[tool_call["id"]] = function["name"]
        call_path = f"{path}.tool_calls[{index}].function"
        function_call = _function_call(function, call_path, history)
        yield {"functionCall": {"id": tool_call["id"]} | function_call, **_signature(tool_call)}


def _function_call(function: dict[str, Any], path: str, history: _History) -> dict[str, Any]:
    arguments = _arguments(function["arguments"], f"{path}.arguments", history)
    return {"name": function["name"], "args": arguments}


def _arguments(text: str, param: str, history: _History) -> dict[str, Any]:
    try:
        arguments = history.decoded(text) if text.strip() else {}
    except bounded_json.TooComplex:
        raise InvalidRequest(
            f"Invalid value for '{param}': it must not be nested more than {MAX_JSON_DEPTH} deep, "
            f"and all arguments and results together may have {MAX_JSON_NODES:,} values and names.",
            param=param,
        ) from None
    if arguments is None:
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


def _tool_result(message: Message, path: str, history: _History) -> Part:
    call_id = message["tool_call_id"]
    if call_id not in history.names:
        param = f"{path}.tool_call_id"
        raise InvalidRequest(f"'{param}' is not the id of a call before it.", param=param)
    return _function_response(history.names[call_id], message, history, id=call_id)


def _function_response(name: str, message: Message, history: _History, **ids: str) -> Part:
    text = "\n".join(_texts(message))
    try:
        response = history.decoded(text)
    except bounded_json.TooComplex:
        response = None  # A model reads it all the same.
    if response is None:
        response = {"result": text}
    return {"functionResponse": {**ids, "name": name, "response": response}}


# ---- Parts of user messages ----------------------------------------------------------------------


def _user_parts(message: Message, path: str, fetch: Fetch) -> Iterator[Part]:
    if isinstance(message["content"], str):
        yield from _text_parts(message)
    for index, part in in_turns(enumerate(parts_of(message))):
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
        data = base64.b64encode(_unquoted(data)).decode()
    return _blob(media_type, data)


def _unquoted(text: str) -> bytes:
    """Return the bytes of percent-encoded `text`, which may be millions of escapes."""
    unquoted, start = bytearray(), 0
    while start < len(text):
        end = start + DECODED_CHARACTERS
        # An escape, such as %C3, must not be cut in two.
        cut = text.rfind("%", max(start + 1, end - 2), end)
        end = end if cut == -1 else cut
        unquoted += unquote_to_bytes(text[start:end])
        pause()
        start = end
    return bytes(unquoted)


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
