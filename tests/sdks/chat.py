"""What a user of the official Python client does, with whatever openai is installed.

Reads a line of JSON for each thing to do, `{"do", "base_url", "api_key"}`, and prints a line that
says what came of it, in the same words as `tests/node/streams.mjs`. `tests/sdks/test_sdks.py`
starts it and keeps it alive: what closes a connection is then what the client did, not the
program's end.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import openai
from openai import OpenAI

MESSAGES = [
    {"role": "system", "content": "You are a helpful assistant."},
    {"role": "user", "content": "What is the capital of France?"},
]

CHAT: dict[str, Any] = {"model": "gpt-4", "messages": MESSAGES, "max_tokens": 100}
USAGE: dict[str, Any] = {"stream_options": {"include_usage": True}}

PROMPT = "A sunset over the mountains."

#: What `break` comes after.
ENOUGH = 4

#: Clients and streams hang up when they are forgotten; these are to do it when they are told to.
kept: list[Any] = []


def plain(client: OpenAI) -> Any:
    completion = client.chat.completions.create(**CHAT)
    return {"version": openai.__version__, "completion": completion.to_dict(mode="json")}


def stream(client: OpenAI, **options: Any) -> Any:
    """The documentation's example."""
    said: dict[str, Any] = {"text": "", "chunks": []}
    with failure(said):
        stream = client.chat.completions.create(stream=True, **CHAT, **options)
        said["provider"] = stream.response.headers.get("x-provider")
        for chunk in stream:
            said["chunks"].append(chunk.to_dict(mode="json"))
            if chunk.choices and chunk.choices[0].delta.content is not None:
                said["text"] += chunk.choices[0].delta.content
    return said


def usage(client: OpenAI) -> Any:
    return stream(client, **USAGE)


def break_off(client: OpenAI) -> Any:
    """Leave the loop, and with it the block that closes the stream.

    Without such a block this client hangs up only when Python's garbage collector comes by.
    """
    read = 0
    with client.chat.completions.create(stream=True, **CHAT) as stream:
        kept.append(stream)
        for _ in stream:
            read += 1
            if read == ENOUGH:
                break
    return {"read": read}


def close(client: OpenAI) -> Any:
    """Leave the stream the other way there is."""
    read = 0
    stream = client.chat.completions.create(stream=True, **CHAT)
    kept.append(stream)
    for _ in stream:
        read += 1
        if read == ENOUGH:
            stream.close()
            break
    return {"read": read}


def helper(client: OpenAI) -> Any:
    with client.chat.completions.stream(**CHAT, **USAGE) as stream:
        text = "".join(event.delta for event in stream if event.type == "content.delta")
        completion = stream.get_final_completion()
    return {"text": text, "completion": completion.to_dict(mode="json")}


def images(client: OpenAI) -> Any:
    """The documentation's examples, and one that fails."""
    said: dict[str, Any] = {}
    answer = client.images.generate(
        model="dall-e-3", prompt=PROMPT, n=1, size="1024x1024", quality="hd", style="vivid"
    )
    said["url"] = answer.to_dict(mode="json")
    answer = client.images.generate(
        model="flux-schnell", prompt=PROMPT, n=2, size="256x256", response_format="b64_json"
    )
    said["b64_json"] = answer.to_dict(mode="json")
    with failure(said):
        client.images.generate(model="flux-schnell", prompt=PROMPT, size="1000x1000")  # type: ignore[call-overload]  # what the types do not allow
    return said


@contextmanager
def failure(said: dict[str, Any]) -> Iterator[None]:
    """Note in `said` how a block fails, as a program that catches it sees it."""
    try:
        yield
    except openai.APIError as error:
        said["error"] = {
            "class": type(error).__name__,
            "status": getattr(error, "status_code", None),
            "code": error.code,
            "type": error.type,
            "message": error.message,
        }


DEEDS = {deed.__name__: deed for deed in (plain, stream, usage, break_off, close, helper, images)}


def main() -> None:
    for line in sys.stdin:
        asked = json.loads(line)
        client = OpenAI(base_url=asked["base_url"], api_key=asked["api_key"])
        kept.append(client)
        print(json.dumps(DEEDS[asked["do"]](client)), flush=True)


if __name__ == "__main__":
    main()
