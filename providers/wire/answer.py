"""Reading an answer in OpenAI's shape: what OpenAI's object knows is kept, vendors' keys are not.

A status of 200 promises little: a proxy's page, an error object or a choice that broke off can be
behind it. Each is raised as the failure it is. Of an answer that is one, every field is of the type
that OpenAI gives it: what says nothing to a client is mended or left out, and where nothing sound
can be made of what was said, the provider has failed.
"""

import secrets
import time
from collections.abc import Mapping
from typing import Any

from models.errors import ProviderFailed
from providers.wire import json, refusal

#: Unix seconds, in the year 2286. What is later was not meant in seconds.
LATEST_CREATED = 10**10

_ANSWER = ("model", "system_fingerprint", "service_tier")
#: What a message may have beside its role, content and calls, and the type it has to be of.
_MESSAGE: dict[str, type] = {
    "refusal": str,
    "annotations": list,
    "audio": dict,
    "reasoning_content": str,
    # It has to come back unchanged in a tool loop, so its owner must be able to send anything.
    "reasoning_details": object,
    "images": list,
}
#: `extra_content` carries a thought's signature, which some models want back with the call.
_EXTRAS = ("extra_content",)
#: What a call needs to be one, by its type.
CALLED = {"function": ("name", "arguments"), "custom": ("name", "input")}
_USAGE_DETAILS = ("prompt_tokens_details", "completion_tokens_details")

_FINISHED = ("stop", "length", "tool_calls", "content_filter", "function_call")
_BROKE_OFF = ("error", "insufficient_system_resource")


def completion(provider: str, body: Any, headers: Mapping[str, str]) -> dict[str, Any]:
    """Return the `chat.completion` object in the `body` of an answer of status 200.

    `body` is decoded JSON, in OpenAI's names. Raises the error that an error object stands for,
    and `ProviderFailed` where there is no answer at all.
    """
    body = json.as_object(body)
    if body.get("error") and not body.get("choices"):
        raise refusal.refusal_within(provider, body["error"], headers)
    found = [json.as_object(choice) for choice in json.as_list(body.get("choices"))]
    if not found:
        raise nothing(provider)
    for choice in found:
        raise_if_broken(provider, choice, body, headers)

    choices = [_choice(provider, place, choice) for place, choice in enumerate(found)]
    answer = head(body, "chat.completion") | {"choices": choices}
    counted = usage(body.get("usage"))
    return answer | ({"usage": counted} if counted else {})


def head(body: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Return what an object of OpenAI's has beside its choices and usage."""
    return {
        "id": json.as_text(body.get("id")) or f"chatcmpl-{secrets.token_hex(12)}",
        "object": kind,
        "created": _moment(body.get("created")),
        **more_of_head(body),
    }


def more_of_head(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return what may be in a head and is in `body`."""
    return {name: body[name] for name in _ANSWER if isinstance(body.get(name), str)}


def usage(reported: Any) -> dict[str, Any] | None:
    """Return OpenAI's usage object; None where the provider did not count, or not in earnest.

    DeepSeek counts cached tokens in a field of its own.
    """
    found = json.as_object(reported)
    prompt, completion = found.get("prompt_tokens"), found.get("completion_tokens")
    if not (json.is_count(prompt) and json.is_count(completion)):
        return None
    total = found.get("total_tokens")
    counted: dict[str, Any] = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": total if total and json.is_count(total) else prompt + completion,
    }
    counted |= {
        name: _counts(found[name]) for name in _USAGE_DETAILS if isinstance(found.get(name), dict)
    }
    if json.is_count(hit := found.get("prompt_cache_hit_tokens")):
        details = counted.get("prompt_tokens_details", {})
        counted["prompt_tokens_details"] = {"cached_tokens": hit} | details
    return counted


def message(provider: str, found: Mapping[str, Any]) -> dict[str, Any]:
    """Return a message, or a stream's delta, in OpenAI's names, without its calls.

    Raises `ProviderFailed` where its content is none.
    """
    said: dict[str, Any] = {"role": "assistant"} if "role" in found else {}
    if "content" in found:
        said["content"] = _content(provider, found["content"])
    said |= {name: value for name, value in found.items() if _is_said(name, value)}
    if not said.get("reasoning_content") and json.as_text(found.get("reasoning")):
        said["reasoning_content"] = found["reasoning"]
    return said


def finish_reason(reason: Any) -> str | None:
    """Return one of OpenAI's reasons; vendors add new ones without notice."""
    said = json.as_text(reason)
    return "stop" if said and said not in _FINISHED else said or None


def raise_if_broken(
    provider: str, choice: Mapping[str, Any], body: Mapping[str, Any], headers: Mapping[str, str]
) -> None:
    """Raise the failure that a choice tells of, in the words of the `body` it stands in."""
    broke_off = choice.get("finish_reason") in _BROKE_OFF
    if error := choice.get("error") or (broke_off and body.get("error")):
        raise refusal.refusal_within(provider, error, headers)
    if broke_off:
        raise ProviderFailed(f"{provider} broke off its answer.")


def nothing(provider: str) -> ProviderFailed:
    return ProviderFailed(f"{provider} sent an answer with nothing in it.")


def _choice(provider: str, place: int, choice: dict[str, Any]) -> dict[str, Any]:
    found, index, logprobs = choice.get("message"), choice.get("index"), choice.get("logprobs")
    if not isinstance(found, dict):
        raise nothing(provider)
    said = {"role": "assistant", "content": None} | message(provider, found)
    if (called := found.get("function_call")) is not None:
        said["function_call"] = _called(provider, "function", called)
    calls = [_tool_call(provider, call) for call in tool_calls(provider, found)]
    return {
        "index": index if json.is_count(index) else place,
        "message": said | ({"tool_calls": calls} if calls else {}),
        "logprobs": logprobs if isinstance(logprobs, dict) else None,
        "finish_reason": finish_reason(choice.get("finish_reason")),
    }


def _content(provider: str, content: Any) -> str | list[Any] | None:
    if content is None or isinstance(content, str | list):
        return content
    raise ProviderFailed(f"{provider} sent an answer whose content is neither text nor parts.")


def _is_said(name: str, value: Any) -> bool:
    return name in _MESSAGE and (value is None or isinstance(value, _MESSAGE[name]))


def tool_calls(provider: str, found: Mapping[str, Any]) -> list[Any]:
    """Return the calls of a message, or what a delta has of them."""
    calls = found.get("tool_calls")
    if calls is None or isinstance(calls, list):
        return calls or []
    raise no_call(provider)


def _tool_call(provider: str, call: Any) -> dict[str, Any]:
    found = json.as_object(call)
    named = call_head(found)
    kind = named["type"]
    return named | {kind: _called(provider, kind, found.get(kind))}


def call_head(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a tool call has beside the function, or the custom tool, that it calls."""
    return {
        "id": json.as_text(found.get("id")) or f"call_{secrets.token_hex(12)}",
        "type": "custom" if found.get("type") == "custom" else "function",
        **call_extras(found),
    }


def call_extras(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a tool call that not every vendor has and that have to come back."""
    return {name: found[name] for name in _EXTRAS if name in found}


def _called(provider: str, kind: str, called: Any) -> dict[str, Any]:
    found = json.as_object(called)
    if all(isinstance(found.get(field), str) for field in CALLED[kind]):
        return found
    raise no_call(provider)


def no_call(provider: str) -> ProviderFailed:
    return ProviderFailed(f"{provider} sent a call of a function without its name or arguments.")


def _counts(details: dict[str, Any]) -> dict[str, Any]:
    return {name: count for name, count in details.items() if count is None or json.is_count(count)}


def _moment(created: Any) -> int:
    return created if type(created) is int and 0 < created <= LATEST_CREATED else int(time.time())
