"""What a prompt costs in tokens at most, guessed from its bytes without a tokenizer.

What is counted, and at which flat figures, is said here for `providers.tokens` too.
"""

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import orjson

from models.chat import OWN_PARAMETERS, PARAMETERS

#: What every message and every name in one adds, and what primes the reply. See "How to count
#: tokens with tiktoken" in OpenAI's cookbook.
TOKENS_PER_MESSAGE = 3
TOKENS_PER_NAME = 1
TOKENS_TO_PRIME = 3
#: What the definition of a function or of an answer's schema adds beside its text.
TOKENS_PER_DEFINITION = 8
#: What we tell a provider that knows no schemas, in words.
TOKENS_TO_ASK_FOR_A_FORMAT = 32
#: What a vendor tells its model about functions before it comes to the caller's. Claude's reads
#: the most.
TOKENS_TO_EXPLAIN_FUNCTIONS = 400

#: An image is counted as a high-detail 1024x1024 one at OpenAI: 85 and four tiles of 170.
#: `"detail": "low"` is 85 whatever the size. Sound and files are counted by their bytes' share.
TOKENS_PER_IMAGE = 765
TOKENS_PER_SMALL_IMAGE = 85
ATTACHED_BYTES_PER_TOKEN = 64

Body = Mapping[str, Any]
Message = Mapping[str, Any]

#: The parameters with a name of their own that a model reads; of the others only those count that
#: are not known here, such as `prediction`, since nobody knows what a vendor makes of them.
_READ = frozenset(
    {"messages", "tools", "tool_choice", "functions", "function_call", "response_format"}
)
_UNREAD = (PARAMETERS | OWN_PARAMETERS) - _READ

_MESSAGE_TEXTS = ("role", "name", "content", "refusal", "reasoning_content", "tool_call_id")
_MESSAGE_CALLS = ("tool_calls", "function_call")
_PART_TEXTS = ("text", "refusal")
#: Where an image, sound or file is, and how to look at it: its flat figure counts that.
_MEDIA = frozenset({"url", "detail", "data", "file_data", "format"})
#: A message's images are the model's own of a former turn; no provider takes them back.
_KNOWN_IN_MESSAGE = frozenset({*_MESSAGE_TEXTS, *_MESSAGE_CALLS, "images"})


def prompt_ceiling(body: Body) -> int:
    """Return more tokens than the prompt of a request is, whose `body` has been checked.

    Counts everything that can reach a model: messages, functions, schemas, and what is not known
    here. Images and other media count at their flat figures, so the bytes of a data URL are never
    text. How far above the prompt it is, and for what text it may be below: see `text_ceiling`.
    """
    messages: Sequence[Message] = body.get("messages") or ()
    texts = (text.encode("utf-8", "replace") for text in message_texts(messages))
    others = map(orjson.dumps, (*_unknown_in(messages), *_parameters(body)))
    return sum(map(text_ceiling, (*texts, *others))) + flat_tokens(body) + _unsaid_tokens(body)


def _unsaid_tokens(body: Body) -> int:
    """Return what the caller did not say and the model is told all the same, at most."""
    asking = TOKENS_TO_ASK_FOR_A_FORMAT if body.get("response_format") else 0
    functions = body.get("tools") or body.get("functions")
    return asking + (TOKENS_TO_EXPLAIN_FUNCTIONS if functions else 0)


def flat_tokens(body: Body) -> int:
    """Return what is counted by the piece: messages, names, media, functions and a schema."""
    messages: Sequence[Message] = body.get("messages") or ()
    names = sum(1 for message in messages if message.get("name"))
    return (
        TOKENS_TO_PRIME
        + TOKENS_PER_MESSAGE * len(messages)
        + TOKENS_PER_NAME * names
        + TOKENS_PER_DEFINITION * len(_definitions(body))
        + sum(_media_tokens(part) for message in messages for part in _parts(message))
    )


def prompt_texts(body: Body) -> Iterator[str]:
    """Yield every text of `body` that models are known to read.

    Roles and names are among them, and of functions and schemas the names of all keys.
    """
    messages: Sequence[Message] = body.get("messages") or ()
    yield from message_texts(messages)
    for field in _MESSAGE_CALLS:
        yield from _texts_within([message.get(field) for message in messages])
    yield from _texts_within(_definitions(body))


def message_texts(messages: Iterable[Message]) -> Iterator[str]:
    """Yield what `messages` say in words, their roles and names included, but no calls."""
    for message in messages:
        for field in _MESSAGE_TEXTS:
            if isinstance(text := message.get(field), str):
                yield text
        for part in _parts(message):
            yield from (part[kind] for kind in _PART_TEXTS if isinstance(part.get(kind), str))


def _definitions(body: Body) -> list[Any]:
    """Return the functions in both spellings, and the schema that an answer has to be valid by."""
    wanted = body.get("response_format")
    schema = wanted.get("json_schema") if isinstance(wanted, dict) else None
    found = [*(body.get("tools") or ()), *(body.get("functions") or ())]
    return [*found, schema] if schema else found


def _parameters(body: Body) -> Iterator[Any]:
    """Yield the parameters other than messages that may reach a model."""
    for name, value in body.items():
        if name not in _UNREAD and name != "messages" and value is not None:
            yield value


def _unknown_in(messages: Iterable[Message]) -> Iterator[Any]:
    """Yield the calls in `messages`, and the fields that are not known here."""
    for message in messages:
        yield from (message[field] for field in _MESSAGE_CALLS if message.get(field))
        yield from _without(_KNOWN_IN_MESSAGE, message)
        for part in _parts(message):
            kind = str(part.get("type"))
            yield from _without({"type", kind, *_PART_TEXTS}, part)
            if isinstance(media := part.get(kind), dict):
                yield from _without(_MEDIA, media)


def _without(known: frozenset[str] | set[str], fields: Mapping[str, Any]) -> Iterator[Any]:
    """Yield what is left of `fields` without those that are `known`, if anything is."""
    if not fields.keys() <= known:
        yield {name: value for name, value in fields.items() if name not in known}


def _parts(message: Message) -> list[Mapping[str, Any]]:
    content = message.get("content")
    return [p for p in content if isinstance(p, dict)] if isinstance(content, list) else []


def _media_tokens(part: Mapping[str, Any]) -> int:
    match part.get("type"):
        case "image_url":
            image = part.get("image_url")
            small = isinstance(image, dict) and image.get("detail") == "low"
            return TOKENS_PER_SMALL_IMAGE if small else TOKENS_PER_IMAGE
        case "input_audio" | "file" as kind:
            return _attached_bytes(part.get(kind)) // ATTACHED_BYTES_PER_TOKEN
        case _:
            return 0


def _attached_bytes(attached: Any) -> int:
    fields = attached if isinstance(attached, dict) else {}
    data = (fields.get(name) for name in ("data", "file_data"))
    return sum(len(text) for text in data if isinstance(text, str))


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


# ---- The guess -----------------------------------------------------------------------------------

#: The parts in which `_TOKENS_OF` is counted.
_PARTS_OF_A_TOKEN = 20

#: Tokens that each byte stands for. Of a character beyond ASCII the first byte stands for all, and
#: says which scripts it can be of. A digit may be a token and so may be the space before it.
_TOKENS_OF: list[tuple[float, Iterable[int]]] = [
    (1.5, range(0x80)),  # White space other than the space, and what cannot be seen.
    (1.0, b"!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"),
    (2.0, b"0123456789"),
    (0.8, b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
    (0.55, b"abcdefghijklmnopqrstuvwxyz"),
    (0.5, b" "),
    (1.25, range(0xC2, 0xC6)),  # Latin letters with accents.
    (2.0, range(0xC6, 0xE0)),
    (1.0, (*range(0xCE, 0xD2), *range(0xD7, 0xDA))),  # Greek, Cyrillic; Hebrew, Arabic.
    (2.0, range(0xE0, 0xEA)),  # Indic scripts, Thai; Japanese; Chinese.
    (3.0, [0xE1]),  # Georgian, Ethiopic, Cherokee, Khmer and more.
    (2.5, (0xE2, *range(0xEA, 0xF0))),  # Symbols; Korean; wide forms.
    (4.0, range(0xF0, 0xF5)),  # Emoji.
]


def _table() -> bytes:
    table = bytearray(256)
    for tokens, values in _TOKENS_OF:
        for value in values:
            table[value] = round(tokens * _PARTS_OF_A_TOKEN)
    return bytes(table)


_TABLE = _table()
#: So many bytes of the table cannot sum up to the modulus of Adler-32.
_CHUNK_BYTES = 65_520 // max(_TABLE)


def text_ceiling(text: bytes) -> int:
    """Return more tokens than `text`, in UTF-8, is: from half of its bytes up to all of them.

    No token is less than a byte, so no text has more than twice the tokens that are returned. Next
    to `o200k_base` it is 2 to 3 times the tokens of English prose and of code, and at least the
    tokens of prose in any common script, JSON, hex, base64, digits however spaced, white space and
    random ASCII, of some hundred characters; of less it may miss a few tokens. Text composed to be
    dense has more: single letters two spaces apart a third, rare characters at random a tenth.
    Takes 1 to 2 ms for 1 MB.
    """
    parts = text.translate(_TABLE)
    starts = range(0, len(parts), _CHUNK_BYTES)
    total = sum([_sum(parts[start : start + _CHUNK_BYTES]) for start in starts])
    return min(len(text), -(-total // _PARTS_OF_A_TOKEN))


def _sum(parts: bytes) -> int:
    """Return the sum of up to `_CHUNK_BYTES` bytes of the table, five times as fast as `sum`.

    The lower half of Adler-32 is one more than the sum of all bytes.
    """
    return (zlib.adler32(parts) & 0xFFFF) - 1
