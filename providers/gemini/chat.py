"""Gemini's chat: building its request, and reading a whole or a streamed answer."""

from collections.abc import Generator, Iterable, Iterator, Mapping
from functools import partial
from typing import Any
from urllib.parse import quote

from config.catalog.model import Route
from config.settings import settings
from models.chat import ChatRequest
from models.chat_parameters import DEFAULT_TEMPERATURE
from models.errors import InvalidRequest
from net import http
from net.answer import Answer
from net.call import Call
from ops.turns import in_turns
from providers.gemini import answers, thinking
from providers.gemini import messages as gemini_messages
from providers.parameters import DEFAULTS, Checked, Message, format_of, parts_of
from providers.wire import answer as wire_answer
from providers.wire import caller_images, json, refusal, stream
from providers.wire.image_room import Room

#: Gemini's name for each parameter whose value is sent unchanged, unless it is the default.
CONFIG = {
    "presence_penalty": "presencePenalty",
    "frequency_penalty": "frequencyPenalty",
    "n": "candidateCount",
    "logprobs": "responseLogprobs",
    "top_logprobs": "logprobs",
}
MAX_CANDIDATES = 8

_MODES = {"none": "NONE", "required": "ANY"}

#: What the schema of a function without arguments may contain.
_EMPTY_SCHEMA: dict[str, tuple[Any, ...]] = {
    "type": ("object",),
    "properties": ({}, None),
    "required": ([], None),
    "additionalProperties": (False,),
}


class Gemini(Checked):
    name = "gemini"
    unsupported = frozenset({"logit_bias", "functions", "function_call", "parallel_tool_calls"})

    def complete(
        self, request: ChatRequest, route: Route, max_tokens: int | None, key: str, call: Call
    ) -> dict[str, Any]:
        url = _url(route, "generateContent")
        with _room(call, request) as room:
            response = http.post(
                call, url, _headers(key), self.payload(request, route, max_tokens, room)
            )
        if response.status != 200:
            raise refusal.refusal(self.name, response)
        body = answers.completion(self.name, json.decoded(self.name, response.content))
        return wire_answer.completion(self.name, body, response.headers)

    def stream(
        self, request: ChatRequest, route: Route, max_tokens: int | None, key: str, call: Call
    ) -> Generator[dict[str, Any], None, None]:
        url = _url(route, "streamGenerateContent?alt=sse")
        with (
            _room(call, request) as room,
            http.stream(
                call, url, _headers(key), self.payload(request, route, max_tokens, room)
            ) as answer,
        ):
            room.leave()  # The request has been read.
            if answer.status != 200:
                raise refusal.refusal(self.name, answer.whole())
            events = answers.events(self.name, self._events(answer))
            yield from stream.read_events(self.name, events, answer.headers)

    def _events(self, answer: Answer) -> Iterator[Any]:
        """Yield the events of a stream, which a proxy may have turned into one JSON array."""
        if answer.has_events():
            for data in answer.events():
                if data:
                    yield json.decoded(self.name, data)
            return
        body = json.decoded(self.name, answer.whole().content)
        yield from body if isinstance(body, list) else [body]

    def check(self, request: ChatRequest, route: Route) -> None:
        super().check(request, route)
        fetched = list(gemini_messages.image_urls(request.messages))
        if len(fetched) > (most := settings.image_urls_per_request):
            raise InvalidRequest(
                f"The messages name {len(fetched)} images by URL, and at most {most} are fetched "
                f"for '{request.model}' at {self.name}. Send the others as data URLs.",
                param=fetched[most],
            )

    def payload(
        self, request: ChatRequest, route: Route, max_tokens: int | None, room: Room
    ) -> dict[str, Any]:
        """Return the JSON to send for `request`, which is not modified.

        Media that are given as URLs are fetched into `room`. Raises `InvalidRequest` if the history
        cannot be translated.
        """
        fetch = partial(caller_images.fetch, room)
        capabilities, signed = self.capabilities(request, route), thinking.generation(route) >= 3
        payload = {
            "systemInstruction": gemini_messages.system_instruction(request.messages),
            "contents": gemini_messages.contents(request.messages, fetch, signed=signed),
            "generationConfig": {
                **_sampling(request.body, capabilities),
                **dict(self._config(request, capabilities)),
                **_limits(request, capabilities, max_tokens),
                **_format(request.body),
                **thinking.thinking(request, route),
            },
        }
        room.close()
        if "tools" in capabilities:
            payload |= _tools(request.body)
        return {name: value for name, value in payload.items() if value}

    def _config(
        self, request: ChatRequest, capabilities: frozenset[str]
    ) -> Iterator[tuple[str, Any]]:
        for name, gemini_name in CONFIG.items():
            value = request.body.get(name, DEFAULTS[name][0])
            if self._is_supported(name, capabilities) and value not in DEFAULTS[name]:
                yield gemini_name, value

    def _refused(self, request: ChatRequest, route: Route) -> Iterator[str]:
        yield from super()._refused(request, route)
        body = request.body
        if body.get("reasoning_effort") == "none" and not thinking.can_turn_off(route):
            yield "reasoning_effort"
        if thinking.generation(route) < 3 and body.get("tools") and format_of(body) != "text":
            yield "response_format"
        if request.choices > MAX_CANDIDATES:
            yield "n"

    def _refused_parts(
        self, messages: Iterable[Message], capabilities: frozenset[str]
    ) -> Iterator[str]:
        messages = list(messages)
        yield from super()._refused_parts(messages, capabilities)
        for index, message in in_turns(enumerate(messages)):
            for part_index, part in in_turns(enumerate(parts_of(message))):
                if part["type"] == "file" and "file_data" not in part["file"]:
                    yield f"messages[{index}].content[{part_index}]"
            for call_index, tool_call in enumerate(message.get("tool_calls") or ()):
                if tool_call.get("function") is None:
                    yield f"messages[{index}].tool_calls[{call_index}]"


def _url(route: Route, method: str) -> str:
    model = quote(route.upstream.id, safe="")
    return f"{settings.base_url_of(Gemini.name)}/models/{model}:{method}"


def _room(call: Call, request: ChatRequest) -> Room:
    return Room(call, images=len(list(gemini_messages.image_urls(request.messages))))


def _headers(key: str) -> dict[str, str]:
    return {"x-goog-api-key": key}


# ---- Parts of the payload ------------------------------------------------------------------------


def _sampling(body: Mapping[str, Any], capabilities: frozenset[str]) -> dict[str, Any]:
    # Both are sent even at OpenAI's default, because Gemini's own defaults differ.
    if "sampling" not in capabilities:
        return {}
    top_p = {"topP": body["top_p"]} if "top_p" in body else {}
    return {"temperature": body.get("temperature", DEFAULT_TEMPERATURE)} | top_p


def _limits(
    request: ChatRequest, capabilities: frozenset[str], max_tokens: int | None
) -> dict[str, Any]:
    limits: dict[str, Any] = {}
    if limit := max_tokens or request.max_tokens:
        limits["maxOutputTokens"] = limit
    if "stop" in capabilities and (stop := request.body.get("stop")):
        limits["stopSequences"] = [stop] if isinstance(stop, str) else stop
    if "seed" in capabilities and (seed := request.body.get("seed")) is not None:
        # Gemini's seed has 32 bits and a sign.
        limits["seed"] = (seed + 2**31) % 2**32 - 2**31
    return limits


def _format(body: Mapping[str, Any]) -> dict[str, Any]:
    if format_of(body) == "text":
        return {}
    json_schema = body["response_format"].get("json_schema") or {}
    schema = json_schema.get("schema")
    if schema and json_schema.get("description"):
        schema = {"description": json_schema["description"]} | schema
    return {"responseMimeType": "application/json"} | (
        {"responseJsonSchema": schema} if schema else {}
    )


def _tools(body: Mapping[str, Any]) -> dict[str, Any]:
    if not body.get("tools"):
        return {}
    declarations = [_declaration(tool["function"]) for tool in body["tools"]]
    config = _function_calling_config(body.get("tool_choice"))
    return {
        "tools": [{"functionDeclarations": declarations}],
        "toolConfig": {"functionCallingConfig": config} if config else None,
    }


def _declaration(function: Mapping[str, Any]) -> dict[str, Any]:
    schema = function.get("parameters") or {}
    declaration = {
        "name": function["name"],
        "description": function.get("description"),
        "parametersJsonSchema": schema if _has_arguments(schema) else None,
    }
    return {name: value for name, value in declaration.items() if value}


def _has_arguments(schema: Mapping[str, Any]) -> bool:
    """Tell whether a function has arguments; Gemini may refuse an object without properties."""
    return any(value not in _EMPTY_SCHEMA.get(name, ()) for name, value in schema.items())


def _function_calling_config(choice: Any) -> dict[str, Any] | None:
    if isinstance(choice, dict):
        return {"mode": "ANY", "allowedFunctionNames": [choice["function"]["name"]]}
    return {"mode": _MODES[choice]} if choice in _MODES else None
