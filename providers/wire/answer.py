"""Reading an answer in OpenAI's shape; fields that OpenAI's object does not have are left out.

A status of 200 promises little: the body may be a proxy's page, an error object or a choice that
broke off, and each is raised as the failure that it is. In what is returned, every field has the
type that OpenAI gives it. Fields that a client can do without are repaired or left out; if no sound
answer can be made of the rest, the provider has failed.
"""

import secrets
import time
from collections.abc import Mapping
from typing import Any

from models.errors import ProviderFailed
from providers.wire import json, refusal

#: Unix seconds, in the year 2286. A larger number cannot be in seconds.
LATEST_CREATED = 10**10

_HEAD_TEXTS = ("model", "system_fingerprint", "service_tier")
#: Fields of a message besides its role, content and calls, with their types.
_MESSAGE_FIELDS: dict[str, type] = {
    "refusal": str,
    "annotations": list,
    "audio": dict,
    "reasoning_content": str,
    # Clients have to send it back unchanged in a tool loop, so any type is passed on.
    "reasoning_details": object,
    "images": list,
}
#: `extra_content` carries the signature of a thought, which some models want back with the call.
_CALL_EXTRAS = ("extra_content",)
#: The fields that a call must have, by its type.
CALL_FIELDS = {"function": ("name", "arguments"), "custom": ("name", "input")}
_USAGE_DETAILS = ("prompt_tokens_details", "completion_tokens_details")

_FINISHED = ("stop", "length", "tool_calls", "content_filter", "function_call")
_BROKE_OFF = ("error", "insufficient_system_resource")


def completion(provider: str, body: Any, headers: Mapping[str, str]) -> dict[str, Any]:
    """Return the `chat.completion` object in the `body` of an answer of status 200.

    `body` is decoded JSON with OpenAI's names. If it is an error object, the error it stands for is
    raised; if it holds no answer, `ProviderFailed`.
    """
    body = json.as_object(body)
    if body.get("error") and not body.get("choices"):
        raise refusal.refusal_within(provider, body["error"], headers)
    raw_choices = [json.as_object(choice) for choice in json.as_list(body.get("choices"))]
    if not raw_choices:
        raise empty_answer(provider)
    for choice in raw_choices:
        raise_if_broken(provider, choice, body, headers)

    choices = [_choice(provider, index, choice) for index, choice in enumerate(raw_choices)]
    answer = head(body, "chat.completion") | {"choices": choices}
    counts = usage(body.get("usage"))
    return answer | ({"usage": counts} if counts else {})


def head(body: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Return the fields of a completion, or chunk, other than its choices and usage.

    `kind` is the value of `object`.
    """
    return {
        "id": json.as_text(body.get("id")) or f"chatcmpl-{secrets.token_hex(12)}",
        "object": kind,
        "created": _created(body.get("created")),
        **optional_head(body),
    }


def optional_head(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the optional fields of a head that are in `body`."""
    return {name: body[name] for name in _HEAD_TEXTS if isinstance(body.get(name), str)}


def usage(reported: Any) -> dict[str, Any] | None:
    """Return OpenAI's usage object; None if its counts are missing or implausible.

    DeepSeek counts cached tokens in a field of its own.
    """
    raw = json.as_object(reported)
    prompt, completion = raw.get("prompt_tokens"), raw.get("completion_tokens")
    if not (json.is_count(prompt) and json.is_count(completion)):
        return None
    total = raw.get("total_tokens")
    counts: dict[str, Any] = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": total if total and json.is_count(total) else prompt + completion,
    }
    counts |= {
        name: _counts(raw[name]) for name in _USAGE_DETAILS if isinstance(raw.get(name), dict)
    }
    if json.is_count(cached := raw.get("prompt_cache_hit_tokens")):
        details = counts.get("prompt_tokens_details", {})
        counts["prompt_tokens_details"] = {"cached_tokens": cached} | details
    return counts


def message(provider: str, raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return a message, or the delta of a stream, in OpenAI's names, without its calls.

    Raises `ProviderFailed` if its content has a wrong type.
    """
    fields: dict[str, Any] = {"role": "assistant"} if "role" in raw else {}
    if "content" in raw:
        fields["content"] = _content(provider, raw["content"])
    fields |= {name: value for name, value in raw.items() if _is_valid(name, value)}
    if not fields.get("reasoning_content") and json.as_text(raw.get("reasoning")):
        fields["reasoning_content"] = raw["reasoning"]
    return fields


def finish_reason(raw: Any) -> str | None:
    """Return one of OpenAI's reasons, or None; vendors add new ones without notice."""
    reason = json.as_text(raw)
    return "stop" if reason and reason not in _FINISHED else reason or None


def raise_if_broken(
    provider: str, choice: Mapping[str, Any], body: Mapping[str, Any], headers: Mapping[str, str]
) -> None:
    """Raise the failure of a choice that broke off; the error is in the choice or in `body`."""
    broke_off = choice.get("finish_reason") in _BROKE_OFF
    if error := choice.get("error") or (broke_off and body.get("error")):
        raise refusal.refusal_within(provider, error, headers)
    if broke_off:
        raise ProviderFailed(f"{provider} broke off its answer.")


def empty_answer(provider: str) -> ProviderFailed:
    """Return the error for an answer that has nothing in it."""
    return ProviderFailed(f"{provider} sent an answer with nothing in it.")


def _choice(provider: str, position: int, choice: dict[str, Any]) -> dict[str, Any]:
    raw, index, logprobs = choice.get("message"), choice.get("index"), choice.get("logprobs")
    if not isinstance(raw, dict):
        raise empty_answer(provider)
    fields = {"role": "assistant", "content": None} | message(provider, raw)
    if (function := raw.get("function_call")) is not None:
        fields["function_call"] = _checked_call(provider, "function", function)
    calls = [_tool_call(provider, call) for call in tool_calls(provider, raw)]
    return {
        "index": index if json.is_count(index) else position,
        "message": fields | ({"tool_calls": calls} if calls else {}),
        "logprobs": logprobs if isinstance(logprobs, dict) else None,
        "finish_reason": finish_reason(choice.get("finish_reason")),
    }


def _content(provider: str, content: Any) -> str | list[Any] | None:
    if content is None or isinstance(content, str | list):
        return content
    raise ProviderFailed(f"{provider} sent an answer whose content is neither text nor parts.")


def _is_valid(name: str, value: Any) -> bool:
    return name in _MESSAGE_FIELDS and (value is None or isinstance(value, _MESSAGE_FIELDS[name]))


def tool_calls(provider: str, message: Mapping[str, Any]) -> list[Any]:
    """Return the raw tool calls of a message, or the pieces of them in a delta.

    Raises `ProviderFailed` if they are not a list.
    """
    calls = message.get("tool_calls")
    if calls is None or isinstance(calls, list):
        return calls or []
    raise malformed_call(provider)


def _tool_call(provider: str, raw: Any) -> dict[str, Any]:
    call = json.as_object(raw)
    head = call_head(call)
    kind = head["type"]
    return head | {kind: _checked_call(provider, kind, call.get(kind))}


def call_head(call: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a tool call other than the function, or the custom tool, it calls."""
    return {
        "id": json.as_text(call.get("id")) or f"call_{secrets.token_hex(12)}",
        "type": "custom" if call.get("type") == "custom" else "function",
        **call_extras(call),
    }


def call_extras(call: Mapping[str, Any]) -> dict[str, Any]:
    """Return the vendor's own fields of a tool call that clients have to send back."""
    return {name: call[name] for name in _CALL_EXTRAS if name in call}


def _checked_call(provider: str, kind: str, raw: Any) -> dict[str, Any]:
    called = json.as_object(raw)
    if all(isinstance(called.get(field), str) for field in CALL_FIELDS[kind]):
        return called
    raise malformed_call(provider)


def malformed_call(provider: str) -> ProviderFailed:
    """Return the error for a call that lacks its name or its arguments."""
    return ProviderFailed(f"{provider} sent a call of a function without its name or arguments.")


def _counts(details: dict[str, Any]) -> dict[str, Any]:
    return {name: count for name, count in details.items() if count is None or json.is_count(count)}


def _created(created: Any) -> int:
    return created if type(created) is int and 0 < created <= LATEST_CREATED else int(time.time())
