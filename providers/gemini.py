"""Google Gemini, over its own protocol, which says more than its imitation of OpenAI's.

Reference: https://ai.google.dev/api/generate-content
"""

import re
from collections.abc import Generator, Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote

from config.catalog import Route
from config.settings import settings
from models.chat import DEFAULT_TEMPERATURE, ChatRequest
from providers import answers, errors, gemini_answers, gemini_messages, http, streams
from providers.http import Call
from providers.parameters import DEFAULTS, Checked, Message, format_of, parts_of

#: Gemini's name of each parameter that is sent as it is, where it is not at its default.
CONFIG = {
    "presence_penalty": "presencePenalty",
    "frequency_penalty": "frequencyPenalty",
    "n": "candidateCount",
    "logprobs": "responseLogprobs",
    "top_logprobs": "logprobs",
}
MOST_CANDIDATES = 8

#: Up to 2.5, tokens to think with, as Google's own imitation of OpenAI has them; 0 is off.
BUDGETS = {
    "none": 0,
    "minimal": 1024,
    "low": 1024,
    "medium": 8192,
    "high": 24_576,
    "xhigh": 24_576,
    "max": 24_576,
}
#: From 3 on, how hard to think; a Pro knows no `minimal`.
LEVELS = {"xhigh": "high", "max": "high"}

_MODES = {"none": "NONE", "required": "ANY"}

#: What a schema of no arguments has.
_EMPTY: dict[str, tuple[Any, ...]] = {
    "type": ("object",),
    "properties": ({}, None),
    "required": ([], None),
    "additionalProperties": (False,),
}


class Gemini(Checked):
    name = "gemini"
    lacks = frozenset({"logit_bias", "functions", "function_call", "parallel_tool_calls"})

    def complete(
        self, request: ChatRequest, route: Route, max_tokens: int | None, key: str, call: Call
    ) -> dict[str, Any]:
        sent = self.payload(request, route, max_tokens, call)
        response = http.post(call, _url(route, "generateContent"), _headers(key), sent)
        if response.status != 200:
            raise errors.refusal(self.name, response)
        body = gemini_answers.completion(self.name, answers.decoded(self.name, response.content))
        return answers.completion(self.name, body, response.headers)

    def stream(
        self, request: ChatRequest, route: Route, max_tokens: int | None, key: str, call: Call
    ) -> Generator[dict[str, Any], None, None]:
        sent = self.payload(request, route, max_tokens, call)
        url = _url(route, "streamGenerateContent?alt=sse")
        with http.stream(call, url, _headers(key), sent) as answer:
            if answer.status != 200:
                raise errors.refusal(self.name, answer.whole())
            events = gemini_answers.events(self.name, self._events(answer))
            yield from streams.read_events(self.name, events, answer.headers)

    def _events(self, answer: http.Answer) -> Iterator[Any]:
        """Yield the events of a stream, which may be one JSON array where a proxy made it so."""
        if answer.has_events():
            for data in answer.events():
                if data:
                    yield answers.decoded(self.name, data)
            return
        whole = answers.decoded(self.name, answer.whole().content)
        yield from whole if isinstance(whole, list) else [whole]

    def payload(
        self, request: ChatRequest, route: Route, max_tokens: int | None, call: Call
    ) -> dict[str, Any]:
        """Return what to send for `request`, which stays as it is.

        `call` is for fetching the media that are named by their URL. Raises `InvalidRequest` where
        the history cannot be read.
        """
        takes, signed = self.takes(request, route), generation(route) >= 3
        sent = {
            "systemInstruction": gemini_messages.system_instruction(request.messages),
            "contents": gemini_messages.contents(request.messages, call, signed=signed),
            "generationConfig": {
                **_sampling(request.body, takes),
                **{CONFIG[name]: value for name, value in self._told(request, takes)},
                **_limits(request, takes, max_tokens),
                **_format(request.body),
                **_thinking(request, route),
            },
        }
        if "tools" in takes:
            sent |= _tools(request.body)
        return {name: value for name, value in sent.items() if value}

    def _told(self, request: ChatRequest, takes: frozenset[str]) -> Iterator[tuple[str, Any]]:
        for name in CONFIG:
            value = request.body.get(name, DEFAULTS[name][0])
            if self._honours(name, takes) and value not in DEFAULTS[name]:
                yield name, value

    def _refused(self, request: ChatRequest, route: Route) -> Iterator[str]:
        yield from super()._refused(request, route)
        body = request.body
        if body.get("reasoning_effort") == "none" and not _can_be_thoughtless(route):
            yield "reasoning_effort"
        if generation(route) < 3 and body.get("tools") and format_of(body) != "text":
            yield "response_format"
        if request.choices > MOST_CANDIDATES:
            yield "n"

    def _refused_parts(self, messages: Iterable[Message], takes: frozenset[str]) -> Iterator[str]:
        messages = list(messages)
        yield from super()._refused_parts(messages, takes)
        for place, message in enumerate(messages):
            for at, part in enumerate(parts_of(message)):
                if part["type"] == "file" and "file_data" not in part["file"]:
                    yield f"messages[{place}].content[{at}]"
            for at, called in enumerate(message.get("tool_calls") or ()):
                if called.get("function") is None:
                    yield f"messages[{place}].tool_calls[{at}]"


def _url(route: Route, method: str) -> str:
    model = quote(route.upstream.id, safe="")
    return f"{settings.base_url_of(Gemini.name)}/models/{model}:{method}"


def _headers(key: str) -> dict[str, str]:
    return {"x-goog-api-key": key}


# ---- What is sent --------------------------------------------------------------------------------


def _sampling(body: Mapping[str, Any], takes: frozenset[str]) -> dict[str, Any]:
    # Both are sent at OpenAI's default, too: Gemini's own is another.
    if "sampling" not in takes:
        return {}
    top_p = {"topP": body["top_p"]} if "top_p" in body else {}
    return {"temperature": body.get("temperature", DEFAULT_TEMPERATURE)} | top_p


def _limits(request: ChatRequest, takes: frozenset[str], max_tokens: int | None) -> dict[str, Any]:
    limits: dict[str, Any] = {}
    if limit := max_tokens or request.max_tokens:
        limits["maxOutputTokens"] = limit
    if "stop" in takes and (stop := request.body.get("stop")):
        limits["stopSequences"] = [stop] if isinstance(stop, str) else stop
    if "seed" in takes and (seed := request.body.get("seed")) is not None:
        # Gemini's is of 32 bits.
        limits["seed"] = (seed + 2**31) % 2**32 - 2**31
    return limits


def _format(body: Mapping[str, Any]) -> dict[str, Any]:
    if format_of(body) == "text":
        return {}
    wanted = body["response_format"].get("json_schema") or {}
    schema = wanted.get("schema")
    if schema and wanted.get("description"):
        schema = {"description": wanted["description"]} | schema
    return {"responseMimeType": "application/json"} | (
        {"responseJsonSchema": schema} if schema else {}
    )


def _tools(body: Mapping[str, Any]) -> dict[str, Any]:
    if not body.get("tools"):
        return {}
    declared = [_declaration(tool["function"]) for tool in body["tools"]]
    chosen = _choice(body.get("tool_choice"))
    return {
        "tools": [{"functionDeclarations": declared}],
        "toolConfig": {"functionCallingConfig": chosen} if chosen else None,
    }


def _declaration(function: Mapping[str, Any]) -> dict[str, Any]:
    schema = function.get("parameters") or {}
    declared = {
        "name": function["name"],
        "description": function.get("description"),
        "parametersJsonSchema": schema if _takes_arguments(schema) else None,
    }
    return {name: value for name, value in declared.items() if value}


def _takes_arguments(schema: Mapping[str, Any]) -> bool:
    """Say whether a function has arguments; Gemini may refuse an object without properties."""
    return any(value not in _EMPTY.get(name, ()) for name, value in schema.items())


def _choice(choice: Any) -> dict[str, Any] | None:
    if isinstance(choice, dict):
        return {"mode": "ANY", "allowedFunctionNames": [choice["function"]["name"]]}
    return {"mode": _MODES[choice]} if choice in _MODES else None


# ---- Thinking ------------------------------------------------------------------------------------


def generation(route: Route) -> float:
    """Return the version in a model's name; one without, such as `-latest`, is of the newest."""
    found = re.match(r"gemini-(\d+(?:\.\d+)?)-", route.upstream.id)
    return float(found.group(1)) if found else float("inf")


def _is_flash(route: Route) -> bool:
    return "flash" in route.upstream.id


def _can_be_thoughtless(route: Route) -> bool:
    return generation(route) < 3 and _is_flash(route)


def _thinking(request: ChatRequest, route: Route) -> dict[str, Any]:
    """Return how much to think, the caller's word before the route's.

    Thoughts are asked for wherever there are any: while they come, a stream is not silent.
    """
    effort = request.body.get("reasoning_effort") or route.extra.get("reasoning_effort")
    if effort is None and not route.upstream.reasoning:
        return {}
    amount: dict[str, Any] = {}
    if effort == "none" and not _can_be_thoughtless(route):
        effort = "minimal"
    if effort and generation(route) < 3:
        amount["thinkingBudget"] = BUDGETS[effort]
    elif effort:
        amount["thinkingLevel"] = _level(effort, route)
    thoughts = {"includeThoughts": True} if amount.get("thinkingBudget") != 0 else {}
    return {"thinkingConfig": amount | thoughts}


def _level(effort: str, route: Route) -> str:
    level = LEVELS.get(effort, effort)
    return "low" if level == "minimal" and not _is_flash(route) else level


provider = Gemini()
