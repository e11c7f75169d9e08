"""Reading an answer in OpenAI's shape: what OpenAI's object knows is kept, vendors' keys are not.

A status of 200 promises little: a proxy's page, an error object or a choice that broke off can be
behind it. Each is raised as the failure it is.
"""

import json
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from models.errors import ProviderFailed
from providers import errors, http

_ANSWER = ("model", "system_fingerprint", "service_tier")
#: `reasoning_details` has to come back unchanged in a tool loop, so its owner must be able to.
_MESSAGE = (
    "role",
    "content",
    "refusal",
    "annotations",
    "audio",
    "function_call",
    "reasoning_content",
    "reasoning_details",
    "images",
)
#: `extra_content` carries a thought's signature, which some models want back with the call.
_TOOL_CALL = ("id", "type", "function", "custom", "extra_content")
_USAGE_DETAILS = ("prompt_tokens_details", "completion_tokens_details")

_FINISHED = ("stop", "length", "tool_calls", "content_filter", "function_call")
_BROKE_OFF = ("error", "insufficient_system_resource")


def chat_completion(provider: str, response: http.Response) -> dict[str, Any]:
    """Return the `chat.completion` object in a response of status 200.

    Raises the error that an error object stands for, and `ProviderFailed` where there is no
    answer at all.
    """
    body = _object(_decoded(provider, response.content))
    if body.get("error") and not body.get("choices"):
        raise errors.refusal_within(provider, body["error"], response.headers)
    found = [_object(choice) for choice in _list(body.get("choices"))]
    if not found:
        raise ProviderFailed(f"{provider} sent an answer with nothing in it.")
    for choice in found:
        _raise_if_broken(provider, choice, response.headers)

    answer = {
        "id": body.get("id") or f"chatcmpl-{secrets.token_hex(12)}",
        "object": "chat.completion",
        "created": body.get("created") or int(time.time()),
        **{name: body[name] for name in _ANSWER if body.get(name) is not None},
        "choices": [_choice(place, choice) for place, choice in enumerate(found)],
    }
    counted = usage(body.get("usage"))
    return answer | ({"usage": counted} if counted else {})


def usage(reported: Any) -> dict[str, Any] | None:
    """Return OpenAI's usage object; None where the provider did not count.

    DeepSeek counts cached tokens in a field of its own.
    """
    found = _object(reported)
    prompt, completion = found.get("prompt_tokens"), found.get("completion_tokens")
    if not (isinstance(prompt, int) and isinstance(completion, int)):
        return None
    total = found.get("total_tokens") or prompt + completion
    counted: dict[str, Any] = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": total,
    }
    counted |= {name: found[name] for name in _USAGE_DETAILS if isinstance(found.get(name), dict)}
    if "prompt_cache_hit_tokens" in found:
        details = counted.get("prompt_tokens_details", {})
        hit = {"cached_tokens": found["prompt_cache_hit_tokens"]}
        counted["prompt_tokens_details"] = hit | details
    return counted


def message(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return a message, or a stream's delta, in OpenAI's names."""
    said = {name: found[name] for name in _MESSAGE if name in found}
    if not said.get("reasoning_content") and found.get("reasoning"):
        said["reasoning_content"] = found["reasoning"]
    return said


def finish_reason(reason: Any) -> str | None:
    """Return one of OpenAI's reasons; vendors add new ones without notice."""
    return "stop" if reason and reason not in _FINISHED else reason or None


def _decoded(provider: str, content: bytes) -> Any:
    decoders: list[Callable[[bytes], Any]] = [orjson.loads, _loads_surrogates]
    for decode in decoders:
        try:
            return decode(content)
        except ValueError as error:
            failure = error
    raise ProviderFailed(f"{provider} sent an answer that is not JSON.") from failure


def _loads_surrogates(content: bytes) -> Any:
    r"""Decode JSON with half of a character in it, such as `"\ud83d"`, which orjson refuses.

    A model that is cut off at its limit can leave one behind; the rest of its answer is good.
    """
    text = json.dumps(json.loads(content), ensure_ascii=False)
    return json.loads(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))


def _raise_if_broken(provider: str, choice: dict[str, Any], headers: Mapping[str, str]) -> None:
    if choice.get("error"):
        raise errors.refusal_within(provider, choice["error"], headers)
    if choice.get("finish_reason") in _BROKE_OFF:
        raise ProviderFailed(f"{provider} broke off its answer.")
    if not isinstance(choice.get("message"), dict):
        raise ProviderFailed(f"{provider} sent an answer with nothing in it.")


def _choice(place: int, choice: dict[str, Any]) -> dict[str, Any]:
    found = choice["message"]
    said = {"role": "assistant", "content": None} | message(found)
    calls = [_tool_call(_object(call)) for call in _list(found.get("tool_calls"))]
    return {
        "index": choice.get("index", place),
        "message": said | ({"tool_calls": calls} if calls else {}),
        "logprobs": choice.get("logprobs"),
        "finish_reason": finish_reason(choice.get("finish_reason")),
    }


def _tool_call(call: dict[str, Any]) -> dict[str, Any]:
    made = {name: call[name] for name in _TOOL_CALL if name in call}
    made["id"] = call.get("id") or f"call_{secrets.token_hex(12)}"
    made.setdefault("type", "function")
    return made


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
