"""What a prompt costs in tokens at most, guessed from its size without a tokenizer."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

#: What every message and every name in one adds, and what primes the reply. See "How to count
#: tokens with tiktoken" in OpenAI's cookbook.
TOKENS_PER_MESSAGE = 3
TOKENS_PER_NAME = 1
TOKENS_TO_PRIME = 3
#: What a function's definition adds beside its text.
TOKENS_PER_TOOL = 8

#: An image is counted as a high-detail 1024x1024 one at OpenAI: 85 and four tiles of 170.
#: `"detail": "low"` is 85 whatever the size. Sound and files are counted by their bytes' share.
TOKENS_PER_IMAGE = 765
TOKENS_PER_SMALL_IMAGE = 85

Message = Mapping[str, Any]
Tool = Mapping[str, Any]


def prompt_ceiling(messages: Sequence[Message], tools: Sequence[Tool] | None = None) -> int:
    """Return more tokens than a prompt of ordinary text has: half its UTF-8 bytes, rounded up.

    Costs no more than reading the text once. Images count at their flat figure; the bytes of a
    data URL are never text.
    """
    texts = [*prompt_texts(messages), *tool_texts(tools or ())]
    return -(-sum(map(_bytes, texts)) // 2) + flat_tokens(messages, tools or ())


def flat_tokens(messages: Sequence[Message], tools: Sequence[Tool]) -> int:
    """Return what is counted by the piece: messages, names, images and tools."""
    names = sum(1 for message in messages if message.get("name"))
    return (
        TOKENS_TO_PRIME
        + TOKENS_PER_MESSAGE * len(messages)
        + TOKENS_PER_NAME * names
        + TOKENS_PER_TOOL * len(tools)
        + sum(_media_tokens(part) for message in messages for part in _parts(message))
    )


def prompt_texts(messages: Sequence[Message]) -> Iterator[str]:
    """Yield every text of `messages` that the model reads, roles and names included."""
    for message in messages:
        yield from _message_texts(message)


def tool_texts(tools: Sequence[Tool]) -> Iterator[str]:
    """Yield the texts of the functions' definitions, the names of a schema's keys included."""
    for tool in tools:
        yield from _texts_within(tool)


def _message_texts(message: Message) -> Iterator[str]:
    for field in ("role", "name", "content", "refusal", "reasoning_content", "tool_call_id"):
        if isinstance(text := message.get(field), str):
            yield text
    for part in _parts(message):
        yield from (part[kind] for kind in ("text", "refusal") if isinstance(part.get(kind), str))
    yield from _texts_within(message.get("tool_calls"))
    yield from _texts_within(message.get("function_call"))


def _parts(message: Message) -> list[Mapping[str, Any]]:
    content = message.get("content")
    return [p for p in content if isinstance(p, dict)] if isinstance(content, list) else []


def _media_tokens(part: Mapping[str, Any]) -> int:
    match part.get("type"):
        case "image_url":
            image = part.get("image_url")
            small = isinstance(image, dict) and image.get("detail") == "low"
            return TOKENS_PER_SMALL_IMAGE if small else TOKENS_PER_IMAGE
        case "input_audio" | "file":
            return _attached_bytes(part) // 64
        case _:
            return 0


def _attached_bytes(part: Mapping[str, Any]) -> int:
    attached = part.get(str(part.get("type")))
    data = attached.get("data") or attached.get("file_data") if isinstance(attached, dict) else ""
    return len(data) if isinstance(data, str) else 0


def _texts_within(value: Any) -> Iterator[str]:
    """Yield the strings and keys of `value`, however deep; a number counts as its digits."""
    pending = [value]
    while pending:
        match pending.pop():
            case str(text):
                yield text
            case dict(fields):
                yield from fields
                pending.extend(fields.values())
            case list(items):
                pending.extend(items)
            case None:
                pass
            case number:
                yield str(number)


def _bytes(text: str) -> int:
    """Return the length of `text` in UTF-8; a lone surrogate counts as its replacement."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
