"""DeepSeek: OpenAI's protocol with a switch for thinking, and JSON without a schema."""

from collections.abc import Iterable, Iterator
from typing import Any

import orjson

from config.catalog.model import Route
from models.chat import ChatRequest
from providers.openai_compatible import OpenAICompatible, without
from providers.parameters import HARMLESS, Message, format_of, parts_of

#: DeepSeek's word for each of OpenAI's; `none` turns thinking off.
EFFORTS = {
    "minimal": "low",
    "low": "low",
    "medium": "high",
    "high": "high",
    "xhigh": "max",
    "max": "max",
}

ASK_FOR_JSON = "Answer with one JSON object and nothing else."


class DeepSeek(OpenAICompatible):
    name = "deepseek"
    unsupported = frozenset(
        {
            "n",
            "seed",
            "logit_bias",
            "parallel_tool_calls",
            "functions",
            "function_call",
            "images",
            "audio",
            "files",
        }
    )
    emulates = frozenset({"json_schema"})
    drops = HARMLESS
    foreign_fields = frozenset({"reasoning_details", "images", "annotations", "refusal", "audio"})

    def capabilities(self, request: ChatRequest, route: Route) -> frozenset[str]:
        """While it thinks, DeepSeek ignores sampling in silence and refuses logprobs."""
        capabilities = super().capabilities(request, route)
        return capabilities - {"sampling", "logprobs"} if _thinks(request, route) else capabilities

    def defaults_temperature(self, request: ChatRequest, route: Route) -> bool:
        return not _thinks(request, route)

    def payload(self, request: ChatRequest, route: Route, max_tokens: int | None) -> dict[str, Any]:
        sent = super().payload(request, route, max_tokens)
        sent.pop("reasoning_effort", None)
        sent.update(_thinking(request, route))
        if format_of(request.body) == "json_schema":
            sent["response_format"] = {"type": "json_object"}
        return sent

    def messages(self, request: ChatRequest) -> list[Message]:
        history = [self._message(message) for message in request.messages]
        return [*format_wishes(request.body, history), *_without_old_thoughts(history)]

    def _message(self, message: Message) -> Message:
        message = without(self.foreign_fields, message)
        if message["role"] == "developer":
            message = message | {"role": "system"}
        if isinstance(message.get("content"), list):
            message = message | {"content": _flat(message)}
        return message

    def _refused_parts(
        self, messages: Iterable[Message], capabilities: frozenset[str]
    ) -> Iterator[str]:
        messages = list(messages)
        for place, message in enumerate(messages):
            if message["role"] == "function":
                yield f"messages[{place}].role"
        yield from super()._refused_parts(messages, capabilities)


def _thinking(request: ChatRequest, route: Route) -> dict[str, Any]:
    """Return how much to think, the caller's word before the route's."""
    chosen = request.body if _says(request.body) else route.extra
    effort = chosen.get("reasoning_effort")
    thinking = {"thinking": chosen["thinking"]} if "thinking" in chosen else {}
    if effort is None:
        return thinking
    if effort == "none":
        return {"thinking": {"type": "disabled"}} | thinking
    return {
        "thinking": {"type": "enabled"},
        "reasoning_effort": EFFORTS.get(effort, effort),
    } | thinking


def _says(body: dict[str, Any]) -> bool:
    return "reasoning_effort" in body or "thinking" in body


def _thinks(request: ChatRequest, route: Route) -> bool:
    thinking = _thinking(request, route).get("thinking")
    if not isinstance(thinking, dict):
        return route.upstream.reasoning
    return thinking.get("type") != "disabled"


def _flat(message: Message) -> str:
    texts = [part.get("text") or part.get("refusal") for part in parts_of(message)]
    return "\n".join(text for text in texts if text)


def format_wishes(body: dict[str, Any], history: list[Message]) -> list[Message]:
    """Return a system message that asks for JSON where the caller's do not say the word.

    DeepSeek's JSON mode may answer with white space without end unless the prompt speaks of JSON.
    """
    match format_of(body):
        case "json_schema":
            return [{"role": "system", "content": _schema_wish(body["response_format"])}]
        case "json_object" if not any("json" in _text(message) for message in history):
            return [{"role": "system", "content": ASK_FOR_JSON}]
        case _:
            return []


def _schema_wish(response_format: dict[str, Any]) -> str:
    wanted = response_format.get("json_schema") or {}
    wish = f"{ASK_FOR_JSON} It must be valid under this JSON schema:"
    lines = [wanted.get("description"), wish, orjson.dumps(wanted.get("schema") or {}).decode()]
    return "\n".join(line for line in lines if line)


def _text(message: Message) -> str:
    return str(message.get("content") or "").lower()


def _without_old_thoughts(history: list[Message]) -> list[Message]:
    """Drop reasoning from the history, save between a tool call and its answer.

    There DeepSeek wants it back: a turn that is still calling tools is one train of thought.
    """
    turn = max((i for i, said in enumerate(history) if said["role"] == "user"), default=-1)
    return [
        message
        if place > turn and message.get("tool_calls")
        else without({"reasoning_content"}, message)
        for place, message in enumerate(history)
    ]


provider = DeepSeek()
