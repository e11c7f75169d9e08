"""What the upstream says where nothing was scripted, and the events that tests script."""

import json
from typing import Any

COMPLETION = {
    "id": "chatcmpl-upstream",
    "object": "chat.completion",
    "created": 1_767_225_600,
    "model": "upstream-1",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hello from upstream."},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
}

Step = dict[str, Any]


def chunk(*choices: dict[str, Any], **more: Any) -> str:
    """Return an event of `COMPLETION` as it is streamed."""
    head = {name: COMPLETION[name] for name in ("id", "created", "model")}
    return json.dumps(head | {"object": "chat.completion.chunk", "choices": choices} | more)


def said(finish_reason: str | None = None, **delta: Any) -> str:
    """Return an event with a `delta` of the first choice."""
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    return chunk(choice, usage=None)


EVENTS = [
    said(role="assistant", content="", refusal=None),
    said(content="Hello"),
    said(content=" from"),
    said(content=" upstream."),
    said("stop"),
    chunk(usage=COMPLETION["usage"]),
    "[DONE]",
]


def gemini_said(
    text: str | None = None, finish_reason: str | None = None, **more: Any
) -> dict[str, Any]:
    """Return what Gemini says with a `text`, as a whole answer or as an event of a stream."""
    content = {"role": "model", "parts": [{"text": text}]} if text is not None else {}
    candidate = {"content": content, "index": 0} | (
        {"finishReason": finish_reason} if finish_reason else {}
    )
    head = {"modelVersion": COMPLETION["model"], "responseId": COMPLETION["id"]}
    return {"candidates": [candidate], **head, **more}


def gemini_usage(completion_tokens: int) -> dict[str, Any]:
    counts = {"promptTokenCount": 10, "candidatesTokenCount": completion_tokens}
    return {"usageMetadata": counts | {"totalTokenCount": sum(counts.values())}}


GEMINI_COMPLETION = gemini_said("Hello from upstream.", "STOP", **gemini_usage(5))
GEMINI_EVENTS = [
    json.dumps(event)
    for event in (
        gemini_said("Hello", **gemini_usage(1)),
        gemini_said(" from", **gemini_usage(2)),
        gemini_said(" upstream.", "STOP", **gemini_usage(5)),
    )
]

#: What happens where nothing was scripted, by the end of the path and whether it is streamed.
COMPLETES: Step = {"match": "/chat/completions"}
STREAMS: Step = COMPLETES | {"events": EVENTS}
GEMINI_COMPLETES: Step = {"match": ":generateContent"}
GEMINI_STREAMS: Step = {"match": ":streamGenerateContent", "events": GEMINI_EVENTS}
