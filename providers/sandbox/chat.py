"""The sandbox's chat: an echo, tool calls or JSON; some models are slow, fail or break off."""

import hashlib
import re
from collections.abc import Generator, Iterator, Mapping
from itertools import zip_longest
from typing import Any

import orjson

from config.catalog.model import Route
from models.chat import ChatRequest
from models.errors import LikeDoError, ProviderBusy, ProviderFailed
from net.call import Call
from ops import turns
from providers.base import Provider
from providers.sandbox import schema
from providers.sandbox.schema import Schema
from providers.wire import answer, chunks
from tokens import count

#: `created` of every answer, in Unix seconds: the same request always gets the same answer.
CREATED = 1_767_225_600
SLOW_SECONDS = 10.0
LONG_LINES = 300
#: The pace of streams: one can read along, and a long answer still takes only some seconds.
WORDS_PER_SECOND = 25
LONG_WORDS_PER_SECOND = 500
ECHOED_CHARACTERS = 200
#: Of a message, so many are looked at for what is echoed; of its parts, so many.
READ_CHARACTERS, READ_PARTS = 10_000, 100


class Sandbox(Provider):
    name = "sandbox"

    def check(self, request: ChatRequest, route: Route) -> None:
        """Accept every parameter."""

    def complete(
        self, request: ChatRequest, route: Route, max_tokens: int | None, key: str, call: Call
    ) -> dict[str, Any]:
        _behave(route.upstream.id, call)
        if route.upstream.id == "sandbox/cut":
            raise _broken_off_error()
        return _completion(request, route, max_tokens)

    def stream(
        self, request: ChatRequest, route: Route, max_tokens: int | None, key: str, call: Call
    ) -> Generator[dict[str, Any], None, None]:
        _behave(route.upstream.id, call)
        completion = _completion(request, route, max_tokens)
        head = answer.head(completion, "chat.completion.chunk")
        for choice in _chunk_choices(completion, route.upstream.id, call):
            yield head | {"choices": [choice]}
        reasons = [(choice["index"], choice["finish_reason"]) for choice in completion["choices"]]
        yield from chunks.final_chunks(head, reasons, completion["usage"])


def _completion(request: ChatRequest, route: Route, max_tokens: int | None) -> dict[str, Any]:
    limit = max_tokens or request.max_tokens
    fingerprint = _fingerprint(request.body)
    choices = []
    for index in range(request.choices):
        choices.append(_choice(request, route, index, limit, fingerprint))
        turns.pause()
    return {
        "id": f"chatcmpl-sandbox-{fingerprint}",
        "object": "chat.completion",
        "created": CREATED,
        "model": route.upstream.id,
        "choices": choices,
        "usage": _usage(request, choices),
    }


def _behave(model: str, call: Call) -> None:
    """Wait or fail if the model's id asks for it."""
    call.check()
    if model == "sandbox/slow":
        call.wait(SLOW_SECONDS)
    if failure := _failure(model):
        raise failure


def _broken_off_error() -> ProviderFailed:
    return ProviderFailed("The sandbox was asked to break off.")


def _failure(model: str) -> LikeDoError | None:
    match model:
        case "sandbox/error-429":
            return ProviderBusy("The sandbox was asked to be busy.", retry_after=1)
        case "sandbox/error-500":
            return ProviderFailed("The sandbox was asked to fail.")
        case _:
            return None


def _fingerprint(body: Mapping[str, Any]) -> str:
    encoded = orjson.dumps(body, option=orjson.OPT_SORT_KEYS)
    turns.pause()
    return hashlib.sha256(encoded).hexdigest()[:24]


def _usage(request: ChatRequest, choices: list[dict[str, Any]]) -> dict[str, Any]:
    prompt = count.count_prompt(request.body)
    completion = count.count_answer({"choices": choices})
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }


# ---- Streaming -----------------------------------------------------------------------------------


def _chunk_choices(completion: dict[str, Any], model: str, call: Call) -> Iterator[dict[str, Any]]:
    """Yield the choices of the chunks, a word of each choice in turn, at a reader's pace."""
    rounds = list(zip_longest(*map(_deltas, completion["choices"])))
    is_cut = model == "sandbox/cut"
    pause = 1 / (LONG_WORDS_PER_SECOND if model == "sandbox/long" else WORDS_PER_SECOND)
    for deltas in rounds[: len(rounds) // 2] if is_cut else rounds:
        for index, delta in enumerate(deltas):
            if delta is not None:
                yield chunks.choice(index, delta)
        call.wait(pause)
    if is_cut:
        raise _broken_off_error()


def _deltas(choice: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the deltas of a choice: first its role, then its words, then its calls in fragments."""
    message = choice["message"]
    content, calls = message.get("content"), message.get("tool_calls") or []
    function_call = message.get("function_call")
    first = {"role": "assistant", "content": content and ""}
    yield first | {name: value for name, value in message.items() if name == "refusal"}

    yield from ({"content": word} for word in _WORD.findall(content or ""))
    for index, call in enumerate(calls):
        head = {"index": index, "id": call["id"], "type": "function"}
        for function in _fragments(call["function"]):
            yield {"tool_calls": [{**head, "function": function}]}
            head = {"index": index}
    if function_call:
        yield from ({"function_call": function} for function in _fragments(function_call))


#: A word and the white space before and after it.
_WORD = re.compile(r"\s*\S+\s*|\s+")
#: A few characters of the arguments, about as many as a token has.
_FRAGMENT = re.compile(r".{1,4}", re.DOTALL)


def _fragments(function: dict[str, str]) -> Iterator[dict[str, str]]:
    """Yield the name of a called function, then its arguments in fragments."""
    yield {"name": function["name"], "arguments": ""}
    yield from ({"arguments": piece} for piece in _FRAGMENT.findall(function["arguments"]))


# ---- The choices of an answer --------------------------------------------------------------------


def _choice(
    request: ChatRequest, route: Route, index: int, limit: int | None, fingerprint: str
) -> dict[str, Any]:
    function = _forced_function(request.body)
    if function is not None:
        return _choice_with_call(function, index, request, fingerprint)
    text, reason = _cut(_text(request, route, index), request.body.get("stop"), limit)
    return _finished(index, {"content": text, "refusal": None}, reason)


def _finished(index: int, message: dict[str, Any], reason: str) -> dict[str, Any]:
    return {
        "index": index,
        "message": {"role": "assistant"} | message,
        "logprobs": None,
        "finish_reason": reason,
    }


def _text(request: ChatRequest, route: Route, index: int) -> str:
    response_format = request.body.get("response_format") or {}
    match response_format.get("type"):
        case "json_object":
            return schema.json({"sandbox": schema.LABEL, "echo": _echo(request)})
        case "json_schema":
            return schema.json(schema.labelled(_schema_of(response_format["json_schema"])))
        case _:
            return _prose(request, route, index)


def _prose(request: ChatRequest, route: Route, index: int) -> str:
    number = f" (choice {index + 1})" if index else ""
    text = f"{schema.LABEL} You asked{number}: {_echo(request)}"
    if route.upstream.id == "sandbox/long":
        lines = (
            f"Line {line} of {LONG_LINES} from the sandbox." for line in range(1, LONG_LINES + 1)
        )
        text = "\n".join([text, *lines])
    return text


def _echo(request: ChatRequest) -> str:
    """Return the last user message in one line, shortened."""
    from_last = turns.in_turns(reversed(request.messages))
    message: Mapping[str, Any] = next((each for each in from_last if each["role"] == "user"), {})
    line = " ".join(_words(message).split())
    if len(line) <= ECHOED_CHARACTERS:
        return line or "nothing in words"
    return line[: ECHOED_CHARACTERS - 1] + "…"


def _words(message: Mapping[str, Any]) -> str:
    content = message.get("content") or ""
    if isinstance(content, str):
        return content[:READ_CHARACTERS]
    return " ".join(
        part["text"][:READ_CHARACTERS] if part["type"] == "text" else f"[{part['type']}]"
        for part in content[:READ_PARTS]
    )


def _cut(text: str, stop: str | list[str] | None, limit: int | None) -> tuple[str, str]:
    """Return `text` up to a stop sequence or the limit of tokens, and the finish reason."""
    for sequence in [stop] if isinstance(stop, str) else stop or ():
        text = text.split(sequence, 1)[0]
    if limit is not None and count.count_text(text) > limit:
        return count.cut(text, limit), "length"
    return text, "stop"


# ---- Tools and schemas ---------------------------------------------------------------------------


def _tools(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    old = [{"type": "function", "function": function} for function in body.get("functions") or ()]
    return [*(body.get("tools") or ()), *old]


def _forced_function(body: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the function that the tool choice forces; None if it forces none."""
    functions = [tool["function"] for tool in _tools(body) if "function" in tool]
    choice = body.get("tool_choice") or body.get("function_call")
    if choice == "required":
        return next(iter(functions), None)
    if not isinstance(choice, dict):
        return None
    name = choice.get("function", choice).get("name")
    return next((function for function in functions if function["name"] == name), None)


def _choice_with_call(
    function: dict[str, Any], index: int, request: ChatRequest, fingerprint: str
) -> dict[str, Any]:
    called = {
        "name": function["name"],
        "arguments": schema.json(schema.valid_value(function.get("parameters") or {})),
    }
    if "functions" in request.body:
        return _finished(index, {"content": None, "function_call": called}, "function_call")
    identity = _fingerprint({"body": fingerprint, "place": index})
    call = {"id": f"call_{identity}", "type": "function", "function": called}
    # OpenAI answers `tool_calls` if the model chose to call and `stop` if it was forced to. Clients
    # are written for the first.
    return _finished(index, {"content": None, "refusal": None, "tool_calls": [call]}, "tool_calls")


def _schema_of(json_schema: Mapping[str, Any]) -> Schema:
    schema = json_schema.get("schema")
    return schema if isinstance(schema, dict) else {}
