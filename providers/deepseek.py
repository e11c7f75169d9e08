"""DeepSeek: OpenAI's protocol with a `thinking` switch, and JSON mode without schemas."""

from collections.abc import Iterable, Iterator
from typing import Any

import orjson

from config.catalog.model import Route
from models.chat import ChatRequest
from ops.turns import in_turns
from providers.openai_compatible import OpenAICompatible, without
from providers.parameters import HARMLESS, Message, format_of, parts_of

#: DeepSeek's reasoning effort for each of OpenAI's; `none` turns thinking off instead.
EFFORTS = {
    "minimal": "low",
    "low": "low",
    "medium": "high",
    "high": "high",
    "xhigh": "max",
    "max": "max",
}

#: What is searched in one step.
SEARCHED_CHARACTERS = 64 * 1024

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
        """Return the capabilities; a thinking DeepSeek ignores sampling and refuses logprobs."""
        capabilities = super().capabilities(request, route)
        return capabilities - {"sampling", "logprobs"} if _thinks(request, route) else capabilities

    def defaults_temperature(self, request: ChatRequest, route: Route) -> bool:
        return not _thinks(request, route)

    def payload(self, request: ChatRequest, route: Route, max_tokens: int | None) -> dict[str, Any]:
        payload = super().payload(request, route, max_tokens)
        payload.pop("reasoning_effort", None)
        payload.update(_thinking(request, route))
        if format_of(request.body) == "json_schema":
            payload["response_format"] = {"type": "json_object"}
        return payload

    def messages(self, request: ChatRequest) -> list[Message]:
        history = [self._message(message) for message in in_turns(request.messages)]
        return [*json_instructions(request.body, history), *_without_old_reasoning(history)]

    def _message(self, message: Message) -> Message:
        message = without(self.foreign_fields, message)
        if message["role"] == "developer":
            message = message | {"role": "system"}
        if isinstance(message.get("content"), list):
            message = message | {"content": _joined_texts(message)}
        return message

    def _refused_parts(
        self, messages: Iterable[Message], capabilities: frozenset[str]
    ) -> Iterator[str]:
        messages = list(messages)
        for index, message in in_turns(enumerate(messages)):
            if message["role"] == "function":
                yield f"messages[{index}].role"
        yield from super()._refused_parts(messages, capabilities)


def _thinking(request: ChatRequest, route: Route) -> dict[str, Any]:
    """Return the parameters of thinking: the caller's if there are any, else the route's."""
    chosen = request.body if _sets_thinking(request.body) else route.extra
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


def _sets_thinking(body: dict[str, Any]) -> bool:
    return "reasoning_effort" in body or "thinking" in body


def _thinks(request: ChatRequest, route: Route) -> bool:
    thinking = _thinking(request, route).get("thinking")
    if not isinstance(thinking, dict):
        return route.upstream.reasoning
    return thinking.get("type") != "disabled"


def _joined_texts(message: Message) -> str:
    texts = [part.get("text") or part.get("refusal") for part in parts_of(message)]
    return "\n".join(text for text in texts if text)


def json_instructions(body: dict[str, Any], history: list[Message]) -> list[Message]:
    """Return the system message that asks for JSON, in a list; empty if none is needed.

    DeepSeek's JSON mode may produce endless white space unless the prompt mentions JSON. A schema
    is always put into the prompt, as JSON mode does not accept one.
    """
    match format_of(body):
        case "json_schema":
            return [{"role": "system", "content": _schema_instruction(body["response_format"])}]
        case "json_object" if not any(_mentions_json(message) for message in in_turns(history)):
            return [{"role": "system", "content": ASK_FOR_JSON}]
        case _:
            return []


def _schema_instruction(response_format: dict[str, Any]) -> str:
    json_schema = response_format.get("json_schema") or {}
    schema = orjson.dumps(json_schema.get("schema") or {}).decode()
    instruction = f"{ASK_FOR_JSON} It must be valid under this JSON schema:"
    lines = [json_schema.get("description"), instruction, schema]
    return "\n".join(line for line in lines if line)


def _mentions_json(message: Message) -> bool:
    """Tell whether a message's content, which is text by now, has the word in any spelling."""
    text = str(message.get("content") or "")
    # The slices overlap, so that none cuts the word in two.
    starts = range(0, len(text), SEARCHED_CHARACTERS)
    slices = (text[max(0, start - 3) : start + SEARCHED_CHARACTERS] for start in starts)
    return any("json" in some.lower() for some in in_turns(slices))


def _without_old_reasoning(history: list[Message]) -> list[Message]:
    """Drop reasoning from the history, except from tool calls of the current turn.

    DeepSeek wants that back: a turn that is still calling tools is one train of thought.
    """
    users = (index for index, message in enumerate(history) if message["role"] == "user")
    last_user = max(users, default=-1)
    return [
        message
        if index > last_user and message.get("tool_calls")
        else without({"reasoning_content"}, message)
        for index, message in in_turns(enumerate(history))
    ]


provider = DeepSeek()
