"""The recorded chats: which there are, what was asked and said in them, and how to replay one."""

import json
from typing import Any, NamedTuple

from config.catalog.model import Route
from models.chat import ChatRequest
from models.errors import (
    ContentPolicyViolation,
    ContextLengthExceeded,
    InvalidRequest,
    ModelGone,
    ProviderBusy,
    ProviderFailed,
    ProviderRefusedUs,
    UnsupportedParameter,
)
from net.call import Call
from providers import get_one
from tests import recordings
from tests.providers.gemini import recordings as gemini_recordings
from tests.providers.gemini.recordings import given_id
from tests.providers.requests_and_routes import HELLO, route
from tests.recordings import Recording
from tests.upstream import Upstream

#: What each recorded refusal means.
REFUSALS = {
    "openai/error-400-gpt-3.5-turbo-01": InvalidRequest,
    "openai/error-400-gpt-4.1-01": InvalidRequest,
    "openai/error-400-gpt-4.1-nano-01": UnsupportedParameter,
    "openai/error-400-gpt-4o-01": InvalidRequest,
    "openai/error-400-gpt-4o-02": UnsupportedParameter,
    "openai/error-400-gpt-4o-mini-01": InvalidRequest,
    "openai/error-400-gpt-5-mini-01": InvalidRequest,
    "openai/error-400-max-tokens-unsupported-01": UnsupportedParameter,
    "openai/error-400-o1-mini-01": UnsupportedParameter,
    "openai/error-401-gpt-3.5-turbo-01": ProviderRefusedUs,
    "openai/error-401-gpt-3.5-turbo-02": ProviderRefusedUs,
    "openai/error-401-gpt-4.1-nano-01": ProviderRefusedUs,
    "openai/error-401-gpt-4o-mini-01": ProviderRefusedUs,
    "openai/error-404-this-model-does-not-exist-01": ModelGone,
    "openai/error-404-this-model-does-not-exist-02": ModelGone,
    "openai/error-429-01": ProviderRefusedUs,
    "openai/error-429-gpt-5-nano-01": ContextLengthExceeded,
    "openai/error-429-gpt-5-nano-02": ContextLengthExceeded,
    "openai/length-gpt-4-vision-preview-01": InvalidRequest,
    "gemini/error-400-gemini-2.0-flash-01": InvalidRequest,
    "gemini/error-400-gemini-2.5-flash-01": ProviderRefusedUs,
    "gemini/error-400-gemini-2.5-flash-02": ContextLengthExceeded,
    "gemini/error-400-gemini-3-pro-preview-01": InvalidRequest,
    "gemini/error-400-gemini-3-pro-preview-02": ProviderRefusedUs,
    "gemini/error-400-gemini-3-pro-preview-03": InvalidRequest,
    "gemini/error-403-gemini-2.0-flash-01": ProviderRefusedUs,
    "gemini/error-404-gemini-3.6-flahs-01": ModelGone,
    "gemini/error-429-gemini-2.5-flash-01": ProviderBusy,
    "gemini/error-429-retry-info-01": ProviderBusy,
    "gemini/error-500-gemini-2.5-flash-01": ProviderFailed,
    "gemini/error-503-gemini-2.5-pro-01": ProviderFailed,
    "gemini/finish-malformed-function-call-gemini-2.5-pro-01": ProviderFailed,
    "gemini/sample-empty-candidates-prompt-feedback-01": ContentPolicyViolation,
    "gemini/sample-empty-content-01": ProviderFailed,
    "gemini/sample-error-400-api-key-01": ProviderRefusedUs,
    "gemini/sample-error-400-location-01": ProviderRefusedUs,
    "gemini/sample-error-400-on-stream-01": InvalidRequest,
    "gemini/sample-error-403-api-disabled-01": ProviderRefusedUs,
    "gemini/sample-error-404-model-01": ModelGone,
    "gemini/sample-error-429-quota-01": ProviderBusy,
    "gemini/sample-prompt-blocked-stream-01": ContentPolicyViolation,
    "deepseek/error-400-deepseek-chat-01": ContextLengthExceeded,
    "deepseek/error-401-deepseek-chat-01": ProviderRefusedUs,
    "deepseek/error-422-deepseek-chat-01": InvalidRequest,
    "openrouter/error-400-claude-haiku-4.5-01": ContextLengthExceeded,
    "openrouter/error-400-o3-01": UnsupportedParameter,
    "openrouter/error-401-claude-3.5-sonnet-01": ProviderRefusedUs,
    "openrouter/error-401-claude-haiku-4.5-01": ProviderRefusedUs,
    "openrouter/error-401-llama-3.2-3b-instruct-free-01": ProviderRefusedUs,
    "openrouter/error-403-o3-mini-01": ProviderRefusedUs,
    "openrouter/error-404-gemini-2.5-flash-free-01": ModelGone,
    "openrouter/error-429-gemini-2.0-flash-exp-free-01": ProviderBusy,
    "openrouter/error-in-200-gemini-2.0-flash-exp-free-01": ProviderBusy,
}

#: Streams of status 200 that break off, some of them with an error, after something was said.
BROKEN_OFF = frozenset(
    {
        "openai/midstream-error-gpt-4.1-nano-01",
        "gemini/sample-error-midstream-01",
        "gemini/sample-quotes-escaped-stream-01",
    }
)
PROVIDERS = ("openai", "gemini", "deepseek", "openrouter")


class Case(NamedTuple):
    """One exchange of a recording."""

    recording: Recording
    exchange: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.recording}-{self.recording.exchanges.index(self.exchange)}"


def is_chat(exchange: dict[str, Any], *, streamed: bool) -> bool:
    request, response = exchange["request"], exchange["response"]
    if is_geminis(exchange):
        return (":streamGenerateContent" in request["url"]) == streamed
    asks = isinstance(request["body"], dict) and bool(request["body"].get("stream"))
    said = response.get("body", "").lstrip()
    is_stream = asks or said.startswith(("data:", ":"))
    url = request["url"]
    # Gemini's imitation of OpenAI, which nobody asks here.
    is_imitation = "googleapis" in url
    return url.endswith("/chat/completions") and not is_imitation and is_stream == streamed


def is_geminis(exchange: dict[str, Any]) -> bool:
    """Tell whether an exchange is in Gemini's own words."""
    return "enerateContent" in exchange["request"]["url"]


def is_answer(exchange: dict[str, Any]) -> bool:
    return exchange["response"]["status"] == 200 and "choices" in said_in(exchange)


def said_in(exchange: dict[str, Any]) -> dict[str, Any]:
    """Return a whole answer in OpenAI's words."""
    if is_geminis(exchange):
        return gemini_recordings.answer(exchange)
    return dict(json.loads(exchange["response"]["body"]))


def asked_in(exchange: dict[str, Any]) -> dict[str, Any] | None:
    """Return what was asked in OpenAI's words, None where there are none."""
    if is_geminis(exchange):
        return gemini_recordings.request(exchange)
    recorded = exchange["request"]["body"]
    return dict(recorded) if recorded else None


#: A recording's long texts and media are cut, a server's tool brings pages of its own, and DeepSeek
#: tells a model that thinks how to, in some fifty tokens.
NOT_WHOLE = ("[cut", "<MASSIVE", '"image_url"', '"input_audio"', '"file"', '"openrouter:', '"think')


def is_whole(exchange: dict[str, Any]) -> bool:
    """Tell whether the recorded prompt is all that the vendor counted."""
    asked = json.dumps(asked_in(exchange) or NOT_WHOLE, ensure_ascii=False)
    counted = "usage" in said_in(exchange)
    return counted and not any(sign in asked for sign in NOT_WHOLE)


def cases(*, answered: bool) -> list[Case]:
    """Return the recorded chats that were answered, or refused, as a whole."""
    return recordings.some(
        [case for case in _chats(streamed=False) if is_answer(case.exchange) == answered]
    )


def whole_prompts() -> list[Case]:
    return [case for case in cases(answered=True) if is_whole(case.exchange)]


def streamed_cases(*, answered: bool = True) -> list[Case]:
    """Return the recorded streams that came to their end, or were refused."""
    return recordings.some(
        [
            case
            for case in _chats(streamed=True)
            if str(case.recording) not in BROKEN_OFF
            and (str(case.recording) not in REFUSALS) == answered
        ]
    )


def broken_off() -> list[Case]:
    """Return the recorded streams that broke off."""
    return recordings.some(
        [
            Case(recording, recording.exchanges[0])
            for provider in PROVIDERS
            for recording in recordings.load(provider)
            if str(recording) in BROKEN_OFF
        ]
    )


def _chats(*, streamed: bool) -> list[Case]:
    return [
        Case(recording, exchange)
        for provider in PROVIDERS
        for recording in recordings.load(provider)
        for exchange in recording.exchanges
        if is_chat(exchange, streamed=streamed)
    ]


def asked(exchange: dict[str, Any]) -> tuple[ChatRequest, Route]:
    """Return the recorded request, read where our own checks take it."""
    body = asked_in(exchange) or HELLO
    try:
        request = ChatRequest.read(body)
    except InvalidRequest:
        request = ChatRequest(body)
    return request, route("", model=body["model"])


def streamed(case: Case, upstream: Upstream) -> list[dict[str, Any]]:
    recording, exchange = case
    upstream.reset()
    upstream.play(exchange)
    request, way = asked(exchange)
    provider = get_one(recording.provider)
    return list(provider.stream(request, way, None, "a-key", Call(10)))


def replay(case: Case, upstream: Upstream) -> dict[str, Any]:
    recording, exchange = case
    upstream.reset()
    upstream.play(exchange)
    request, way = asked(exchange)
    return get_one(recording.provider).complete(request, way, None, "a-key", Call(10))


def same_message(message: dict[str, Any], original: dict[str, Any]) -> None:
    for field in ("role", "content", "refusal", "annotations", "function_call", "images"):
        assert message.get(field) == original.get(field), field
    thoughts = original.get("reasoning_content") or original.get("reasoning")
    assert message.get("reasoning_content") == thoughts
    calls = [(given_id(call["id"]), call["function"]) for call in message.get("tool_calls", [])]
    assert calls == [(c["id"], c["function"]) for c in original.get("tool_calls") or []]


#: Fields of a message that are said piece by piece.
TEXTS = ("content", "reasoning_content", "refusal")


def events(exchange: dict[str, Any]) -> list[dict[str, Any]]:
    if is_geminis(exchange):
        return gemini_recordings.events(exchange)
    lines = exchange["response"]["body"].split("\n")
    return [json.loads(line[6:]) for line in lines if line.startswith("data: {")]


def told(chunks: list[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """Return what a plain reading makes of each choice: texts, calls, lists and the reason."""
    said: dict[int, dict[str, Any]] = {}
    for choice in (choice for chunk in chunks for choice in chunk["choices"]):
        so_far = said.setdefault(choice["index"], {"calls": {}, "function": "", "reason": None})
        so_far["reason"] = choice["finish_reason"] or so_far["reason"]
        _listen(so_far, choice["delta"])
    return said


def _listen(so_far: dict[str, Any], delta: dict[str, Any]) -> None:
    for name in TEXTS:
        text = delta.get(name) or (delta.get("reasoning") if name == "reasoning_content" else "")
        so_far[name] = so_far.get(name, "") + (text or "")
    for name in ("annotations", "images"):
        so_far[name] = [*so_far.get(name, []), *(delta.get(name) or [])]
    for piece in delta.get("tool_calls") or []:
        call = so_far["calls"].setdefault(piece["index"], {"id": "", "name": "", "arguments": ""})
        call["id"] = call["id"] or given_id(piece.get("id", ""))
        call["name"] = call["name"] or piece["function"].get("name", "")
        call["arguments"] += piece["function"].get("arguments") or ""
    called = delta.get("function_call") or {}
    so_far["function"] += called.get("name", "") + called.get("arguments", "")
