"""The texts and other parts of a request that count as tokens."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from models.chat_parameters import OWN_PARAMETERS, PARAMETERS
from ops.turns import in_turns

#: Tokens that every message and every name adds, and that prime the reply. See "How to count
#: tokens with tiktoken" in OpenAI's cookbook.
TOKENS_PER_MESSAGE = 3
TOKENS_PER_NAME = 1
TOKENS_TO_PRIME = 3
#: Tokens that the definition of a function or of a response schema adds to its text.
TOKENS_PER_DEFINITION = 8
#: Tokens of our own instruction to a provider that does not support schemas.
TOKENS_TO_ASK_FOR_A_FORMAT = 32
#: Tokens of a vendor's own instructions about functions, before the caller's. Claude's are the
#: longest.
TOKENS_TO_EXPLAIN_FUNCTIONS = 400

#: An image is counted as a high-detail 1024x1024 one at OpenAI: 85 and four tiles of 170.
#: `"detail": "low"` is 85 whatever the size. Sound and files are counted by their bytes, as a guess
#: at what a cancelled call used; `tokens.attachments` bounds them for holds.
TOKENS_PER_IMAGE = 765
TOKENS_PER_SMALL_IMAGE = 85
ATTACHED_BYTES_PER_TOKEN = 64

Body = Mapping[str, Any]
Message = Mapping[str, Any]

#: The known parameters that a model reads. Of the others only unknown ones count, such as
#: `prediction`, since a vendor may pass them to the model.
_READ = frozenset(
    {"messages", "tools", "tool_choice", "functions", "function_call", "response_format"}
)
_UNREAD = (PARAMETERS | OWN_PARAMETERS) - _READ

_MESSAGE_TEXTS = ("role", "name", "content", "refusal", "reasoning_content", "tool_call_id")
_MESSAGE_CALLS = ("tool_calls", "function_call")
_PART_TEXTS = ("text", "refusal")
#: Fields that locate or describe an image, sound or file; its flat rate covers them.
_MEDIA = frozenset({"url", "detail", "data", "file_data", "format"})
#: A message's `images` are the model's own of an earlier turn; no provider accepts them back.
_KNOWN_IN_MESSAGE = frozenset({*_MESSAGE_TEXTS, *_MESSAGE_CALLS, "images"})


def added_tokens(body: Body) -> int:
    """Return at most how many tokens we or the vendor add to the caller's own."""
    instruction = TOKENS_TO_ASK_FOR_A_FORMAT if body.get("response_format") else 0
    functions = body.get("tools") or body.get("functions")
    return instruction + (TOKENS_TO_EXPLAIN_FUNCTIONS if functions else 0)


def flat_tokens(body: Body) -> int:
    """Return the tokens that count per item: messages, names, images, functions and a schema."""
    messages: Sequence[Message] = body.get("messages") or ()
    names = sum(1 for message in in_turns(messages) if message.get("name"))
    return (
        TOKENS_TO_PRIME
        + TOKENS_PER_MESSAGE * len(messages)
        + TOKENS_PER_NAME * names
        + TOKENS_PER_DEFINITION * len(_definitions(body))
        + sum(map(_image_tokens, in_turns(_parts_of(messages))))
    )


def prompt_texts(body: Body) -> Iterator[str]:
    """Yield every text of `body` that models are known to read.

    This includes roles and names, and all keys of functions and schemas.
    """
    messages: Sequence[Message] = body.get("messages") or ()
    yield from message_texts(messages)
    for field in _MESSAGE_CALLS:
        yield from _texts_within([message[field] for message in messages if field in message])
    yield from _texts_within(_definitions(body))


def message_texts(messages: Iterable[Message]) -> Iterator[str]:
    """Yield the texts of `messages`, including roles and names, but not calls."""
    for message in messages:
        for field in _MESSAGE_TEXTS:
            if isinstance(text := message.get(field), str):
                yield text
        for part in parts_of(message):
            yield from (part[kind] for kind in _PART_TEXTS if isinstance(part.get(kind), str))


def _definitions(body: Body) -> list[Any]:
    """Return the functions, in both spellings, and the response schema."""
    response_format = body.get("response_format")
    schema = response_format.get("json_schema") if isinstance(response_format, dict) else None
    functions = [*(body.get("tools") or ()), *(body.get("functions") or ())]
    return [*functions, schema] if schema else functions


def parameters(body: Body) -> Iterator[Any]:
    """Yield the parameters other than messages that may reach a model."""
    for name, value in in_turns(body.items()):
        if name not in _UNREAD and name != "messages" and value is not None:
            yield value


def unknown_in(messages: Iterable[Message]) -> Iterator[Any]:
    """Yield the calls in `messages`, and unknown fields."""
    for message in in_turns(messages):
        yield from (message[field] for field in _MESSAGE_CALLS if message.get(field))
        yield from _without(_KNOWN_IN_MESSAGE, message)
        for part in in_turns(parts_of(message)):
            kind = str(part.get("type"))
            yield from _without({"type", kind, *_PART_TEXTS}, part)
            if isinstance(media := part.get(kind), dict):
                yield from _without(_MEDIA, media)


def _without(known: frozenset[str] | set[str], fields: Mapping[str, Any]) -> Iterator[Any]:
    """Yield `fields` without those that are `known`, unless none are left."""
    if not fields.keys() <= known:
        yield {name: value for name, value in fields.items() if name not in known}


def _parts_of(messages: Iterable[Message]) -> Iterator[Mapping[str, Any]]:
    return (part for message in messages for part in parts_of(message))


def parts_of(message: Message) -> list[Mapping[str, Any]]:
    """Return the parts of a message's content; none if the content is a plain string."""
    content = message.get("content")
    return [p for p in content if isinstance(p, dict)] if isinstance(content, list) else []


def _image_tokens(part: Mapping[str, Any]) -> int:
    if part.get("type") != "image_url":
        return 0
    image = part.get("image_url")
    small = isinstance(image, dict) and image.get("detail") == "low"
    return TOKENS_PER_SMALL_IMAGE if small else TOKENS_PER_IMAGE


def attached_tokens(body: Body) -> int:
    """Return a guess at the tokens of the files and sound in `body`."""
    messages: Sequence[Message] = body.get("messages") or ()
    parts = (part for message in messages for part in parts_of(message))
    return sum(_attached_bytes(part) // ATTACHED_BYTES_PER_TOKEN for part in parts)


def _attached_bytes(part: Mapping[str, Any]) -> int:
    kind = part.get("type")
    attached = part.get(kind) if kind in ("input_audio", "file") else None
    fields = attached if isinstance(attached, dict) else {}
    data = (fields.get(name) for name in ("data", "file_data"))
    return sum(len(text) for text in data if isinstance(text, str))


def _texts_within(value: Any) -> Iterator[str]:
    """Yield the strings and keys of `value` at any depth; a number counts as its digits."""
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
